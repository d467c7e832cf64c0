"""Asking the models: windows, failures of one model, and what a second run asks."""

import dataclasses
import json
import time
from functools import partial

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.evaluate.answers import ask_models
from tests.helpers.evaluation import eval_arguments
from tests.helpers.questions import write_lines
from tests.helpers.servers import FakeServer


pytest.importorskip("openai")
MAX_NEW_TOKENS = 100


@pytest.fixture
def make_args(tmp_path):
    return partial(eval_arguments, tmp_path)


@pytest.fixture
def make(make_args, server):
    """Arguments for models on one server, with 24 contexts of 100 to 2,400 tokens."""

    def make(*names: str, url: str = server.url, **changes):
        each = {"infer_backend": "openai", "base_url": url}
        models = [each | {"name": name, "model_name_or_path": f"served/{name}"} for name in names]
        args = make_args(
            **{"models": models, "max_new_tokens": MAX_NEW_TOKENS, "max_retries": 0, "concurrency": 1, **changes}
        )
        args.folder.mkdir(exist_ok=True)
        write_lines(args.contexts_path, *rows())
        return args

    return make


def rows() -> list[dict]:
    """Contexts of 24 lengths, a hundred tokens apart."""
    return [{"id": f"q{i}", "prompt": f"Where is {i}?", "length": 100 * i, "tokens": 100 * i} for i in range(1, 25)]


def answered(args, name: str) -> list[str]:
    path = args.answers_path(name)
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.is_file() else []


def windows(args) -> dict[str, int | None]:
    paths = {model.name: args.record_path(model.name) for model in args.models}
    return {name: json.loads(path.read_text())["window"] for name, path in paths.items() if path.is_file()}


def asked_models(server) -> set[str]:
    return {request["model"] for request in server.requests}


def test_all_models_are_asked_greedily_in_their_order(make, server):
    args = make("base", "trained")
    assert ask_models(args, rows()) == {}
    assert answered(args, "base") == answered(args, "trained") == [row["id"] for row in rows()]
    assert [request["model"] for request in server.requests] == ["served/base"] * 24 + ["served/trained"] * 24
    assert {(request["temperature"], request["n"], request["max_tokens"]) for request in server.requests} == {
        (0, 1, 100)
    }
    assert windows(args) == {"base": None, "trained": None}


def test_one_more_model_is_all_that_a_second_run_asks(make, server):
    ask_models(make("base"), rows())
    before = make("base").answers_path("base").read_bytes()
    server.requests.clear()
    args = make("base", "trained")
    assert ask_models(args, rows()) == {}
    assert asked_models(server) == {"served/trained"} and args.answers_path("base").read_bytes() == before
    server.close()
    assert ask_models(args, rows()) == {}  # nothing is asked, not even whether there is a server


def test_contexts_beyond_the_window_are_not_asked(make, server):
    server.models = [{"id": "served/base", "object": "model", "created": 0, "owned_by": "x", "max_model_len": 1000}]
    args = make("base")
    assert ask_models(args, rows()) == {}
    assert answered(args, "base") == [f"q{i}" for i in range(1, 10)] and windows(args) == {"base": 1000}
    other = make("base", output=f"{args.output}2")
    other.models[0].window = 500
    ask_models(other, rows())
    assert answered(other, "base") == [f"q{i}" for i in range(1, 5)]


def test_a_refusal_for_length_tells_the_window(make, server, capsys):
    def refuse(request, number):
        if int(request["messages"][0]["content"].split()[2][:-1]) > 12:
            return 400, {"error": {"message": "This model's maximum context length is 1300 tokens."}}

    server.misbehave = refuse
    args = make("base", concurrency=2)
    assert ask_models(args, rows()) == {}  # twelve refusals in a row are no failures
    assert sorted(answered(args, "base")) == sorted(f"q{i}" for i in range(1, 13))
    assert windows(args) == {"base": 1399}
    assert len(server.requests) <= 12 + 2 and "no answer" not in capsys.readouterr().err
    server.requests.clear()
    assert ask_models(args, rows()) == {} and server.requests == []


def serve(server, window: int) -> None:
    server.models = [{"id": "served/base", "object": "model", "created": 0, "owned_by": "x", "max_model_len": window}]


def test_a_length_is_left_out_whole_where_one_of_its_contexts_is_beyond_the_window(make, server):
    """What fits of it would be an easier choice of questions, and is not scored."""
    serve(server, 1000)
    both = [row | {"length": 1000 if row["tokens"] <= 1000 else 2400} for row in rows()]
    ask_models(make("base"), both)
    assert server.requests == []  # the first length has a context of 1,000 tokens, which leaves no room for an answer


def test_a_server_that_is_down_does_not_change_the_window(make, server):
    serve(server, 1000)
    args = make("base")
    ask_models(args, rows())
    server.close()
    assert ask_models(args, rows()) == {}  # all that the known window takes is there
    moved = make("base", url="http://127.0.0.1:1/v1")
    assert list(ask_models(moved, rows())) == ["base"] and windows(moved) == {"base": 1000}


def test_a_server_with_a_larger_window_is_asked_for_the_rest(make, server):
    serve(server, 1000)
    args = make("base")
    ask_models(args, rows())
    serve(server, 10_000)
    assert ask_models(args, rows()) == {} and windows(args) == {"base": 10_000}
    assert answered(args, "base") == [row["id"] for row in rows()]


def test_a_model_that_fails_does_not_hold_up_the_others(make, server):
    server.misbehave = lambda request, number: (
        (500, {"error": {"message": "broken"}}) if request["model"] == "served/base" and number > 6 else None
    )
    args = make("base", "trained")
    stopped = ask_models(args, rows())
    assert list(stopped) == ["base"] and "5 questions in a row got no answer" in stopped["base"]
    assert len(answered(args, "base")) == 6 and len(answered(args, "trained")) == 24
    kept = args.answers_path("base").read_bytes()
    server.misbehave = lambda request, number: None
    server.requests.clear()
    assert ask_models(args, rows()) == {}
    assert asked_models(server) == {"served/base"} and len(server.requests) == 18
    assert args.answers_path("base").read_bytes().startswith(kept) and len(answered(args, "base")) == 24


def test_a_server_that_dies_keeps_what_is_finished(make, server):
    def die(request, number):
        if number > 9:
            raise ConnectionResetError

    server.misbehave = die
    args = make("base", "trained")
    stopped = ask_models(args, rows())
    assert list(stopped) == ["base", "trained"] and len(answered(args, "base")) == 9
    revived = FakeServer()
    again = make("base", "trained", url=revived.url)  # another address
    assert ask_models(again, rows()) == {}
    revived.close()
    assert len(answered(args, "base")) == len(answered(args, "trained")) == 24 and len(revived.requests) == 15 + 24


def test_a_single_question_without_an_answer_is_told(make, server):
    server.misbehave = lambda request, number: (400, {"error": {"message": "no"}}) if number == 3 else None
    args = make("base")
    assert ask_models(args, rows()) == {"base": "1 questions got no answer"}
    assert ask_models(args, rows()) == {}


def test_answers_of_other_settings_are_refused_before_any_model_is_asked(make, server):
    ask_models(make("trained"), rows())
    server.requests.clear()
    with pytest.raises(SolopoError, match="trained.jsonl' line 1 was made with other settings"):
        ask_models(make("base", "trained", max_new_tokens=50), rows())
    assert server.requests == []


def test_a_model_that_cannot_be_loaded_is_named_and_the_next_is_asked(make, server, tmp_path):
    args = make("served")
    (tmp_path / "empty").mkdir()
    broken = {"name": "broken", "infer_backend": "huggingface", "base_url": None}
    broken["model_name_or_path"] = str(tmp_path / "empty")
    args.models.insert(0, dataclasses.replace(args.models[0], **broken))
    stopped = ask_models(args, rows())
    assert list(stopped) == ["broken"] and "cannot be loaded by LLaMA-Factory" in stopped["broken"]
    assert len(answered(args, "served")) == 24 and windows(args) == {"broken": None, "served": None}


def test_the_bar_counts_tokens(make, server, capsys):
    server.misbehave = lambda request, number: time.sleep(0.05) if number > 20 else None
    ask_models(make("base"), rows())
    assert sum(row["tokens"] for row in rows()) == 30_000
    assert "30.0k/30.0k" in capsys.readouterr().err
