"""Sampling through a server: a made-up one that misbehaves, and LLaMA-Factory's own."""

import builtins
import html
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from solopo_llamafactory.sampling import server as server_module
from solopo_llamafactory.sampling.base import SampleError, TooLongError
from solopo_llamafactory.sampling.server import ServerSampler
from tests.helpers.questions import ROOT, write_lines
from tests.helpers.runs import command_environment
from tests.sampling.test_loop import arguments, finished, ids, question, sample, write_contexts


pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class FakeServer:
    """Answers chat requests; `misbehave(request, number)` may return (status, object) or raise instead."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.models_status = 200
        self.models: list[dict] = []
        self.misbehave = lambda request, number: None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.reply(fake.models_status, {"object": "list", "data": fake.models})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(request)
                fake.keys.append(self.headers["Authorization"])
                status, body = fake.misbehave(request, len(fake.requests)) or (200, fake.completion(request))
                self.reply(status, body)

            def reply(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # clients that hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def completion(self, request: dict, count: int | None = None, **changes) -> dict:
        """The answer to a request; each choice tells the request's number."""
        choice = {
            "message": {"role": "assistant", "content": f"answer {request.get('seed')}"},
            "finish_reason": "stop",
            **changes,
        }
        choices = [{"index": i, **choice} for i in range(count or request["n"])]
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.close()


def server_arguments(tmp_path, url: str, **changes) -> BuildArguments:
    values = {"model_name_or_path": "the/model", "n": 5, "samples_per_call": 2, "max_retries": 2, "concurrency": 2}
    return arguments(tmp_path, infer_backend="openai", base_url=url, **{**values, **changes})


def run(args: BuildArguments):
    return sample(args, ServerSampler(args), lambda row, samples: False, wanted=1)


def test_what_is_asked(tmp_path, server, capsys, monkeypatch):
    args = server_arguments(tmp_path, server.url, engine_args={"top_k": 7})
    sampler = ServerSampler(args)
    assert sampler.workers == 2 and server.requests == []
    samples = sampler(question(0))
    assert len(samples) == 5 and [request["n"] for request in server.requests] == [2, 2, 1]
    first = server.requests[0]
    assert first == {
        "model": "the/model",
        "messages": [{"role": "user", "content": "Where is 0?"}],
        "n": 2,
        "temperature": 0.85,
        "top_p": 1.0,
        "max_tokens": 512,
        "seed": first["seed"],
        "top_k": 7,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    assert len({request["seed"] for request in server.requests}) == 3
    assert server.keys[0] == "Bearer none"
    sampler(question(1))
    assert capsys.readouterr().err.count("its chat template must be the one of training (qwen)") == 1
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    ServerSampler(args)(question(0))
    assert server.keys[-1] == "Bearer secret"


def refusing(*names: str, status: int = 400, says: str = "", one_by_one: bool = False):
    """A server that refuses requests with any of these fields, and names all of them or the first one."""

    def misbehave(request, number):
        found = sorted(set(names) & set(request))
        found = found[:1] if one_by_one else found
        if found:
            return status, {
                "error": {"message": says or f"Unrecognized request argument supplied: {', '.join(found)}"}
            }

    return misbehave


@pytest.mark.parametrize(
    ("misbehave", "missing"),
    [
        (refusing("top_k", "min_p"), {"top_k", "min_p"}),
        (refusing("seed", status=422), {"seed"}),
        (refusing("top_k", "min_p", "seed", one_by_one=True), {"top_k", "min_p", "seed"}),
        (refusing("top_p"), {"top_p"}),
        (refusing("min_p", says="bad request"), {"top_k", "min_p", "repetition_penalty"}),
        (
            refusing("presence_penalty", status=500, says="internal error"),
            set(server_module.NEUTRAL) | {"seed", "top_p"},
        ),
    ],
)
def test_a_server_is_asked_without_the_fields_that_it_refuses(tmp_path, server, capsys, misbehave, missing):
    """Decided once, whatever the concurrency, and no question is lost for it."""
    server.misbehave = misbehave
    args = server_arguments(tmp_path, server.url, concurrency=8, max_retries=0)
    write_contexts(args, 12)
    counts = run(args)
    assert (counts.finished, counts.failed) == (12, 0)
    everything = {"seed", "top_p", *server_module.NEUTRAL}
    assert {frozenset(everything - set(request)) for request in server.requests[-20:]} == {frozenset(missing)}
    assert len(server.requests) <= 12 * 3 + 3  # three requests a question
    said = [line for line in capsys.readouterr().err.splitlines() if "refuses" in line]
    assert len(said) == 1 and all(name in said[0] for name in missing)


def test_a_field_of_engine_args_wins_and_is_never_left_out(tmp_path, server):
    args = server_arguments(
        tmp_path, server.url, max_retries=0, engine_args={"top_k": 7, "temperature": 0.5, "seed": 1}
    )
    ServerSampler(args)(question(0))
    assert {(each["top_k"], each["temperature"], each["seed"]) for each in server.requests} == {(7, 0.5, 1)}
    server.misbehave = refusing("top_k")
    with pytest.raises(SampleError, match="top_k"):
        ServerSampler(args)(question(0))
    assert all("top_k" in request for request in server.requests)


def test_a_refused_question_settles_no_field(tmp_path, server):
    """The first question is refused for itself: the others are asked with all fields."""

    def refuse(request, number):
        if request["messages"][0]["content"] == "Where is 0?":
            return 400, {"error": {"message": "the prompt is filtered"}}

    server.misbehave = refuse
    args = server_arguments(tmp_path, server.url, max_retries=0)
    write_contexts(args, 6)
    counts = run(args)
    assert (counts.finished, counts.failed) == (5, 1)
    assert all(set(server_module.NEUTRAL) <= set(request) for request in server.requests[-10:])


def test_the_hosts_server_gets_no_presence_penalty(tmp_path, server, capsys):
    """It takes that field for a factor, and 0 is none."""
    server.models = [{"id": "gpt-3.5-turbo", "object": "model", "created": 0, "owned_by": "owner"}]
    ServerSampler(server_arguments(tmp_path, server.url))(question(0))
    assert all("presence_penalty" not in request and "min_p" in request for request in server.requests)
    assert "--top_k 0 --repetition_penalty 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}], "b"),
        ([], ""),
        ([{"type": "image_url"}, "x", {"type": "text", "text": None}], ""),
        (None, ""),
    ],
)
def test_answers_in_parts(tmp_path, server, content, text):
    message = {"role": "assistant", "content": content}
    server.misbehave = lambda request, number: (200, server.completion(request, message=message))
    assert {each.text for each in ServerSampler(server_arguments(tmp_path, server.url))(question(0))} == {text}


def test_a_server_that_ignores_n_is_asked_again(tmp_path, server):
    server.misbehave = lambda request, number: (200, server.completion(request, count=1))
    samples = ServerSampler(server_arguments(tmp_path, server.url))(question(0))
    assert len({each.text for each in samples}) == 5  # each request has a seed of its own
    server.misbehave = lambda request, number: (200, server.completion(request, count=9))
    assert len(ServerSampler(server_arguments(tmp_path, server.url))(question(0))) == 5


def test_greedy_asks_once(tmp_path, server):
    samples = ServerSampler(server_arguments(tmp_path, server.url, temperature=0))(question(0))
    assert [request["n"] for request in server.requests] == [1] and len(samples) == 5 and len(set(samples)) == 1


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"finish_reason": "length"}, ("answer", "length")),
        ({"finish_reason": "MAX_TOKENS"}, ("answer", "length")),
        ({"finish_reason": "model_length"}, ("answer", "length")),
        ({"finish_reason": "model_context_window_exceeded"}, ("answer", "length")),
        ({"finish_reason": "content_filter"}, ("answer", "content_filter")),
        ({"finish_reason": "tool_calls"}, ("answer", "tool_calls")),
        ({"finish_reason": None}, ("answer", "stop")),
        ({"finish_reason": ""}, ("answer", "stop")),
        ({"finish_reason": "eos_token"}, ("answer", "stop")),
        ({"finish_reason": "end_turn"}, ("answer", "stop")),
        ({"finish_reason": "STOP"}, ("answer", "stop")),
        ({"finish_reason": "stop_sequence"}, ("answer", "stop")),
        ({"finish_reason": "whatever"}, ("answer", "stop")),
        ({"finish_reason": {"type": "length", "length": 512}}, ("answer", "length")),
        ({"finish_reason": {"type": "stop", "matched": 5}}, ("answer", "stop")),
        ({"message": {"role": "assistant", "content": None}}, ("", "stop")),
        ({"message": {"role": "assistant", "content": ""}}, ("", "stop")),
        ({"message": None}, ("", "stop")),
    ],
)
def test_ends_and_empty_answers(tmp_path, server, choice, expected):
    server.misbehave = lambda request, number: (200, server.completion(request, **choice))
    first = ServerSampler(server_arguments(tmp_path, server.url))(question(0))[0]
    assert (first.text.split(" ")[0], first.finish) == expected


@pytest.mark.parametrize(
    ("reason", "tokens", "finish"),
    [
        (None, 512, "length"),
        (None, 511, "stop"),
        ("whatever", 512, "length"),
        ("eos_token", 512, "stop"),
        ("stop", 512, "stop"),
        (None, None, "stop"),
    ],
)
def test_tokens_decide_where_the_word_does_not(tmp_path, server, reason, tokens, finish):
    def answer(request, number):
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9}
        return 200, server.completion(request, finish_reason=reason) | {"usage": usage}

    server.misbehave = answer
    args = server_arguments(tmp_path, server.url, samples_per_call=1)
    assert {each.finish for each in ServerSampler(args)(question(0))} == {finish}


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_passing_errors_are_sat_out(tmp_path, server, status):
    server.misbehave = lambda request, number: (status, {"error": {"message": "busy"}}) if number <= 2 else None
    args = server_arguments(tmp_path, server.url)
    write_contexts(args, 3)
    counts = run(args)
    assert (counts.finished, counts.failed) == (3, 0)
    assert all(len(row["samples"]) == 5 for row in finished(args))


def test_a_hanging_server_is_asked_again(tmp_path, server):
    def hang(request, number):
        if number == 1:
            time.sleep(3)

    server.misbehave = hang
    args = server_arguments(tmp_path, server.url, timeout=0.5)
    assert len(ServerSampler(args)(question(0))) == 5 and len(server.requests) == 4


def test_a_question_that_is_refused_is_left_out_and_asked_again(tmp_path, server, capsys):
    def refuse(request, number):
        if request["messages"][0]["content"] == "Where is 2?":
            return 400, {"error": {"message": "the prompt is too long"}}

    server.misbehave = refuse
    args = server_arguments(tmp_path, server.url)
    write_contexts(args, 6)
    counts = run(args)
    assert (counts.finished, counts.failed) == (5, 1) and "q2" not in ids(args)
    assert "the prompt is too long" in capsys.readouterr().err
    server.misbehave = lambda request, number: None
    server.requests.clear()
    assert run(args).finished == 6
    assert {request["messages"][0]["content"] for request in server.requests} == {"Where is 2?"}


@pytest.mark.parametrize(
    ("said", "too_long"),
    [
        ("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.", True),
        ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", True),
        ("the request exceeds the available context size", True),
        ("no such model", False),
    ],
)
def test_a_refusal_for_length_is_told_from_others(tmp_path, server, said, too_long):
    server.misbehave = lambda request, number: (400, {"error": {"message": said}})
    with pytest.raises(SampleError) as caught:
        ServerSampler(server_arguments(tmp_path, server.url))(question(0))
    assert isinstance(caught.value, TooLongError) == too_long


def test_the_window_is_what_the_server_says(tmp_path, server):
    def window(name: str) -> int | None:
        return ServerSampler(server_arguments(tmp_path, server.url, model_name_or_path=name)).window

    base = {"id": "base", "object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 8192}
    server.models = [base, {**base, "id": "adapter", "parent": "base", "max_model_len": None}]
    assert window("base") == window("adapter") == 8192
    server.models = [{"id": "base", "object": "model", "created": 0, "owned_by": "host"}]
    assert window("base") is window("other") is None
    server.models_status = 404
    assert window("base") is None


@pytest.mark.parametrize("body", [{"error": {"message": "no credit"}}, {"choices": []}, "<html>", None])
def test_status_200_without_an_answer_is_no_answer(tmp_path, server, body):
    server.misbehave = lambda request, number: (200, body)
    with pytest.raises(SampleError, match="q0: no answers in"):
        ServerSampler(server_arguments(tmp_path, server.url))(question(0))


def test_a_server_that_dies_costs_no_finished_sample(tmp_path, server):
    args = server_arguments(tmp_path, server.url, max_retries=1)
    write_contexts(args, 30)

    def die(request, number):
        if number > 20:
            raise ConnectionResetError

    server.misbehave = die
    with pytest.raises(SolopoError, match="5 questions in a row.*Connection error.*the same command continues"):
        run(args)
    kept = args.samples_path.read_bytes()
    assert 5 <= len(ids(args)) <= 6
    server.close()
    with pytest.raises(SolopoError, match="no server answers at"):
        run(args)
    assert args.samples_path.read_bytes() == kept
    revived = FakeServer()
    run(server_arguments(tmp_path, revived.url))  # another address
    revived.close()
    assert args.samples_path.read_bytes().startswith(kept) and len(set(ids(args))) == len(ids(args)) == 30


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no.such.host.invalid/v1", "127.0.0.1:8000/v1"])
def test_a_missing_server_is_named(tmp_path, url):
    args = server_arguments(tmp_path, url)
    write_contexts(args, 3)
    with pytest.raises(SolopoError, match="no server answers at") as caught:
        run(args)
    assert url in str(caught.value) and "\n" not in str(caught.value)


def test_a_refused_key_is_named(tmp_path, server):
    server.models_status = 401
    with pytest.raises(SolopoError, match="refuses the key.*OPENAI_API_KEY"):
        ServerSampler(server_arguments(tmp_path, server.url))(question(0))


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_that_the_server_repeats_is_not_told(tmp_path, server, monkeypatch, capsys, status):
    """Neither on the screen nor in an error nor in a file."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    message = {"error": {"message": f"bad key {os.environ['OPENAI_API_KEY']}"}}
    server.misbehave = lambda request, number: (status, message)
    args = server_arguments(tmp_path, server.url, max_retries=0)
    write_contexts(args, 2)
    told = ""
    try:
        run(args)
    except SolopoError as error:
        told = str(error)
    assert server.keys and set(server.keys) == {"Bearer sk-secret-of-mine"}
    told += "".join(capsys.readouterr())
    told += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "bad key OPENAI_API_KEY" in told
    assert "secret-of-mine" not in told


@pytest.mark.parametrize("status", [404, 405, 500])
def test_a_server_without_a_list_of_models_is_fine(tmp_path, server, status):
    server.models_status = status
    assert len(ServerSampler(server_arguments(tmp_path, server.url))(question(0))) == 5


def test_a_finished_file_needs_no_server(tmp_path, server):
    args = server_arguments(tmp_path, server.url)
    write_contexts(args, 2)
    run(args)
    run(server_arguments(tmp_path, "http://127.0.0.1:9/v1"))


def test_a_missing_client_is_named(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_openai(name, *args, **kwargs):
        if name == "openai":
            raise ImportError
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_openai)
    with pytest.raises(SolopoError, match=r'pip install "solopo-llamafactory\[sample\]"'):
        ServerSampler(server_arguments(tmp_path, "http://127.0.0.1:9/v1"))


def run_against(folder: str, url: str, tokenizer: str) -> None:
    """What the killed process runs."""
    run(host_arguments(Path(folder), url, tokenizer))


def host_arguments(folder, url: str, tokenizer: str, **changes) -> BuildArguments:
    values = {"tokenizer": tokenizer, "model_name_or_path": "any", "temperature": 0, "max_new_tokens": 32, "n": 3}
    return server_arguments(folder, url, **{**values, **changes})


@contextmanager
def host_api(model: str, log):
    """`llamafactory-cli api` with a tiny model on a free port; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = command_environment(API_HOST="127.0.0.1", API_PORT=str(port), API_VERBOSE="0")
    command = ["llamafactory-cli", "api", "--model_name_or_path", model, "--template", "qwen"]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_hosts_own_server(tmp_path, qwen_tokenizer):
    folders = [tmp_path / name for name in ("whole", "killed", "sampled")]
    for folder in folders:
        folder.mkdir()
    with host_api(qwen_tokenizer, tmp_path / "api.log") as url:
        whole, killed = (host_arguments(folder, url, qwen_tokenizer) for folder in folders[:2])
        for args in (whole, killed):
            write_contexts(args, 24)
        run(whole)
        assert len(ids(whole)) == 24 and all(len(set(map(str, row["samples"]))) == 1 for row in finished(whole))

        code = f"from tests.sampling.test_server import run_against as run; run{str(folders[1]), url, qwen_tokenizer}"
        environment = command_environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
        while not killed.samples_path.exists() or killed.samples_path.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = ids(killed)
        assert 3 <= len(kept) < 24
        run(killed)
        assert ids(killed)[: len(kept)] == kept
        assert sorted(map(str, finished(killed))) == sorted(map(str, finished(whole)))

        sampled = host_arguments(folders[2], url, qwen_tokenizer, temperature=0.85, n=5)
        write_contexts(sampled, 4)
        counts = run(sampled)
        assert (counts.finished, counts.failed) == (4, 0)
        texts = [each["text"] for row in finished(sampled) for each in row["samples"]]
        assert len(texts) == 20 and len(set(texts)) > 15
        assert {each["finish"] for row in finished(sampled) for each in row["samples"]} <= {"stop", "length"}


def test_a_build_from_a_server_with_marks_in_its_answers(tmp_path, server, qwen_tokenizer, capsys):
    """Thoughts that pass the right answer, the template's end, another family's end and empty answers."""

    def answer(request, number):
        completion = server.completion(request)
        for choice, form in zip(completion["choices"], itertools.count(4 * number)):
            right, wrong = "The answer is Esk.", f"The answer is Orm {form}."
            contents = [
                f"<think>{right}</think>\n\n{wrong}<|im_end|>",
                f"{wrong}</think>{right}<|im_end|>",
                "",
                right + "<|eot_id|>",
            ]
            choice["message"] = {"role": "assistant", "content": contents[form % 4]}
        return 200, completion

    server.misbehave = answer
    values = {"tokenizer": qwen_tokenizer, "n": 4, "samples_per_call": 4, "num_examples": 2}
    files = {"source": "generic", "dataset_info": str(tmp_path / "info.json"), "num_contexts": 2}
    sizes = {"short_tokens": 200, "long_tokens": 400}
    evidence = [{"title": "Lease", "text": "The lease was signed in Esk."}]
    questions = [{"id": str(i), "question": f"Where {i}?", "answers": ["Esk"], "evidence": evidence} for i in range(2)]
    documents = [
        {"title": f"Minutes {i}", "text": f"The council met {i} times and spoke of roads."} for i in range(40)
    ]
    files |= {"input": str(write_lines(tmp_path / "questions.jsonl", *questions))}
    files |= {"corpus": str(write_lines(tmp_path / "documents.jsonl", *documents))}
    args = server_arguments(tmp_path, server.url, **values, **files, **sizes)
    run_build(args)
    pairs = [json.loads(line) for line in Path(args.output).read_text().splitlines()]
    assert len(pairs) == 2 and all(pair["chosen"].endswith("</think>The answer is Esk.") for pair in pairs)
    assert all(pair["rejected"].startswith("<think>The answer is Esk.</think>") for pair in pairs)
    assert "<|" not in "".join(pair["chosen"] + pair["rejected"] for pair in pairs)
    out = capsys.readouterr().out
    page = args.report_path.read_text()
    for said in (
        "2 of 8 answers hold no answer (2 empty): ",
        "2 of 8 answers hold a control token (2 <|eot_id|>) and enter no pair: ",
    ):
        assert said in out and html.escape(said) in page
    assert "4 of 8 answers came with the template's end mark, which is removed." in out
