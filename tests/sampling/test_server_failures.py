"""A server that fails: what is asked again, what is left out, and what is said of it."""

import builtins
import os
import time

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.sampling.base import SampleError, TooLongError
from solopo_llamafactory.sampling.server import ServerSampler
from tests.helpers.sampling import finished, ids, question, write_contexts
from tests.helpers.servers import FakeServer, run_server, server_arguments


pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_passing_errors_are_sat_out(tmp_path, server, status):
    server.misbehave = lambda request, number: (status, {"error": {"message": "busy"}}) if number <= 2 else None
    args = server_arguments(tmp_path, server.url)
    write_contexts(args, 3)
    counts = run_server(args)
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
    counts = run_server(args)
    assert (counts.finished, counts.failed) == (5, 1) and "q2" not in ids(args)
    assert "the prompt is too long" in capsys.readouterr().err
    server.misbehave = lambda request, number: None
    server.requests.clear()
    assert run_server(args).finished == 6
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
        run_server(args)
    kept = args.samples_path.read_bytes()
    assert 5 <= len(ids(args)) <= 6
    server.close()
    with pytest.raises(SolopoError, match="no server answers at"):
        run_server(args)
    assert args.samples_path.read_bytes() == kept
    revived = FakeServer()
    run_server(server_arguments(tmp_path, revived.url))  # another address
    revived.close()
    assert args.samples_path.read_bytes().startswith(kept) and len(set(ids(args))) == len(ids(args)) == 30


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no.such.host.invalid/v1", "127.0.0.1:8000/v1"])
def test_a_missing_server_is_named(tmp_path, url):
    args = server_arguments(tmp_path, url)
    write_contexts(args, 3)
    with pytest.raises(SolopoError, match="no server answers at") as caught:
        run_server(args)
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
        run_server(args)
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
    run_server(args)
    run_server(server_arguments(tmp_path, "http://127.0.0.1:9/v1"))


def test_a_missing_client_is_named(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_openai(name, *args, **kwargs):
        if name == "openai":
            raise ImportError
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_openai)
    with pytest.raises(SolopoError, match=r'pip install "solopo-llamafactory\[sample\]"'):
        ServerSampler(server_arguments(tmp_path, "http://127.0.0.1:9/v1"))
