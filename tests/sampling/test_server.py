"""Sampling through a server: what it is asked, what it is not, and what its answers are taken for."""

import pytest

from solopo_llamafactory.sampling import server as server_module
from solopo_llamafactory.sampling.base import SampleError
from solopo_llamafactory.sampling.server import ServerSampler
from tests.helpers.sampling import question, write_contexts
from tests.helpers.servers import run_server, server_arguments


pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("short_pauses")


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
    counts = run_server(args)
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
    counts = run_server(args)
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
