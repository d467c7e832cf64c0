"""`solopo eval` as a whole: windows, YaRN and adapters, a server that dies, and a killed run on real questions."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest

from solopo_llamafactory.cli import demo_texts, main
from solopo_llamafactory.evaluate.answers import ask_models
from solopo_llamafactory.evaluate.arguments import EvalArguments
from solopo_llamafactory.evaluate.grid import make_grid, read_contexts
from solopo_llamafactory.host import chat
from solopo_llamafactory.model.tiny import make_tiny_model
from solopo_llamafactory.questions.rendering import Renderer
from tests.helpers.evaluation import eval_arguments
from tests.helpers.html_page import Page, shown
from tests.helpers.questions import CORPUS, MUSIQUE, ROOT
from tests.helpers.runs import command_environment


ROPE_THETA = 1e6  # not the library's default, which would take the place of a lost one


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny model that takes 2,048 tokens, whose tokenizer knows the demo corpus."""
    folder = os.getcwd()
    os.chdir(ROOT)
    texts = demo_texts()
    os.chdir(folder)
    made = make_tiny_model(
        str(tmp_path_factory.mktemp("model")), "qwen2", texts, hidden_size=32, max_position_embeddings=2048
    )
    path = Path(made, "config.json")
    config = json.loads(path.read_text())
    config["rope_parameters"]["rope_theta"] = ROPE_THETA
    path.write_text(json.dumps(config))
    return made


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory) -> str:
    """A LoRA adapter of that model that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules=["q_proj", "v_proj"])
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    folder = str(tmp_path_factory.mktemp("adapter"))
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(monkeypatch) -> list:
    """The configurations of the models that are loaded, in their order."""
    configs, original = [], chat.load_chat_model

    def load(arguments: dict):
        made = original(arguments)
        configs.append(made.engine.model.config)
        return made

    monkeypatch.setattr(chat, "load_chat_model", load)
    return configs


def test_base_adapter_and_yarn_in_one_run(tmp_path, model, adapter, loaded):
    models = [
        {"name": "base"},
        {"name": "lora", "adapter_name_or_path": adapter},
        {"name": "yarn", "engine_args": {"rope_scaling": "yarn"}},
    ]
    sizes = {"lengths": [1000, 2044, 3000], "depths": [0, 1], "num_questions": 3, "max_new_tokens": 4, "batch_size": 2}
    args = eval_arguments(tmp_path, tokenizer=model, models=models, **sizes)
    make_grid(args, Renderer(model, "qwen"))
    rows = read_contexts(args)
    assert ask_models(args, rows) == {}
    windows = {model["name"]: json.loads(args.record_path(model["name"]).read_text())["window"] for model in models}
    assert windows == {"base": 2048, "lora": 2048, "yarn": 4096}
    ropes = [(config.rope_parameters["rope_type"], config.rope_parameters["rope_theta"]) for config in loaded]
    assert ropes == [("default", ROPE_THETA), ("default", ROPE_THETA), ("yarn", ROPE_THETA)]
    answers = {}
    for values in models:
        lines = map(json.loads, args.answers_path(values["name"]).read_text().splitlines())
        answers[values["name"]] = {row["id"]: row["samples"][0]["text"] for row in lines}
    short = {row["id"] for row in rows if row["length"] < 3000}
    assert set(answers["base"]) == set(answers["lora"]) == short
    assert set(answers["yarn"]) == {row["id"] for row in rows}
    assert answers["base"] != answers["lora"] and answers["base"] != {id: answers["yarn"][id] for id in short}

    kept = {name: args.answers_path(name).stat().st_mtime_ns for name in answers}
    assert ask_models(args, rows) == {}
    assert kept == {name: args.answers_path(name).stat().st_mtime_ns for name in answers}


def test_a_server_that_dies_midway_and_the_same_command_again(tmp_path, model, server, capsys):
    """Of two models, the first is finished and the second is not: the command says so, and scores what is there."""
    served = {"infer_backend": "openai", "base_url": server.url}
    names, folder, config = ("base", "trained"), tmp_path / "out", tmp_path / "eval.yaml"
    values = {
        "source": "musique",
        "input": str(CORPUS),
        "tokenizer": model,
        "template": "qwen",
        "lengths": [600, 1200],
        "depths": [0, 1],
        "num_questions": 6,
        "preprocessing_num_workers": 1,
        "models": [{"name": name, "model_name_or_path": f"served/{name}", **served} for name in names],
        "max_retries": 0,
        "concurrency": 1,
        "output": str(folder),
    }
    config.write_text(json.dumps(values))  # JSON is YAML

    def die(request, number):
        if number > 24 + 10:
            raise ConnectionResetError

    server.misbehave = die
    assert main(["eval", str(config)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("solopo")] == errors[-1:]
    assert errors[-1].startswith("solopo eval: 1 of 2 models are not finished (trained: 5 questions in a row got no")
    assert errors[-1].endswith("what is finished is scored, and the same command asks for the rest.")
    assert not any(line.startswith("Traceback") for line in errors)
    answers = {name: folder / "answers" / f"{name}.jsonl" for name in names}
    kept = {name: path.read_bytes() for name, path in answers.items()}
    assert [kept[name].count(b"\n") for name in names] == [24, 10]
    assert missing_answers(folder) == {"base": 0, "trained": 14}
    for text in ((folder / "table.md").read_text(), shown(Page(folder / "report.html"))):
        assert "14 of 48 answers are missing (trained 14)" in text

    server.misbehave = lambda request, number: None
    server.requests.clear()
    assert main(["eval", str(config)]) == 0
    assert [request["model"] for request in server.requests] == ["served/trained"] * 14
    assert answers["base"].read_bytes() == kept["base"] and answers["trained"].read_bytes().startswith(kept["trained"])
    assert missing_answers(folder) == {"base": 0, "trained": 0}
    for text in ((folder / "table.md").read_text(), shown(Page(folder / "report.html"))):
        assert "All 48 prompts within the models' windows were answered." in text


def test_a_model_that_says_nothing_is_named_in_the_results(tmp_path, model, server, capsys):
    """A server that puts all into reasoning_content: stopped early, told in every place, and asked again once mended."""
    silent = {"role": "assistant", "content": None, "reasoning_content": "It is Esk."}
    server.misbehave = lambda request, number: (200, server.completion(request, message=silent))
    config, folder = tmp_path / "eval.yaml", tmp_path / "out"
    values = {"source": "musique", "input": str(CORPUS), "tokenizer": model, "template": "qwen", "lengths": [600, 900]}
    values |= {"depths": [0, 1], "num_questions": 12, "preprocessing_num_workers": 1, "concurrency": 4}
    served = {"name": "base", "model_name_or_path": "served", "infer_backend": "openai", "base_url": server.url}
    config.write_text(json.dumps(values | {"models": [served], "output": str(folder)}))
    assert main(["eval", str(config)]) == 1
    assert 20 <= len(server.requests) < 48
    said = "none of the first 20 answers can be used (20 empty): raise max_new_tokens"
    for text in (capsys.readouterr().err, (folder / "table.md").read_text(), shown(Page(folder / "report.html"))):
        assert said in text and "--reasoning-parser" in text
    server.misbehave = lambda request, number: None
    assert main(["eval", str(config)]) == 0
    assert missing_answers(folder) == {"base": 0} and said not in (folder / "table.md").read_text()


def missing_answers(folder: Path) -> dict[str, int]:
    models = json.loads((folder / "results.json").read_text())["models"]
    return {name: values["missing"] for name, values in models.items()}


def configuration(folder, model: str) -> dict:
    return {
        "source": "musique",
        "input": str(MUSIQUE),
        "tokenizer": model,
        "template": "qwen",
        "lengths": [2000, 4000],
        "depths": [0, 0.5, 1],
        "num_questions": 5,
        "models": [{"name": "base", "window": 8192}, {"name": "again", "window": 2500}],
        "max_new_tokens": 8,
        "batch_size": 4,
        "output": str(folder),
    }


@contextmanager
def running(config, log):
    """`solopo eval` in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "solopo_llamafactory.cli", "eval", str(config)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=command_environment(PYTHONPATH=str(ROOT)), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not MUSIQUE.is_file(), reason="MuSiQue's sample is not here")
def test_real_questions_killed_and_resumed(tmp_path, model):
    """Nothing about quality, everything about the machinery."""
    configs = {}
    for name in ("whole", "killed"):
        configs[name] = tmp_path / f"{name}.yaml"
        configs[name].write_text(json.dumps(configuration(tmp_path / name, model)))  # JSON is YAML
    assert main(["eval", str(configs["whole"])]) == 0

    args = EvalArguments(**configuration(tmp_path / "killed", model))
    path, log = args.answers_path("base"), tmp_path / "log"
    with running(configs["killed"], log) as process:
        while not (path.is_file() and path.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.02)
    kept = path.read_bytes()
    assert 5 <= kept.count(b"\n") < 30
    assert main(["eval", str(configs["killed"])]) == 0
    assert path.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    for name in ("contexts.jsonl", "answers/base.jsonl", "answers/again.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "5 questions of MuSiQue (CC BY 4.0)" in shown(Page(tmp_path / "killed" / "report.html"))

    renderer, by_length = Renderer(model, "qwen"), defaultdict(list)
    for row in read_contexts(args):
        assert row["licence"] == "CC BY 4.0" and row["tokens"] == renderer.count(row["prompt"])
        assert 0.95 * row["length"] < row["tokens"] <= row["length"]
        assert abs(row["positions"][0] - 1 - row["depth"] * (row["documents"] - 1)) <= 0.5
        by_length[row["length"]].append(row["id"])
    answered = [json.loads(line)["id"] for line in args.answers_path("again").read_text().splitlines()]
    assert answered == by_length[2000]  # 4,000 is beyond its window
