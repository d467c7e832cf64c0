"""The whole build with a real tokenizer and LLaMA-Factory's templates; answers are made up."""

import json

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct import run
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from solopo_llamafactory.questions.rendering import Renderer
from solopo_llamafactory.questions.sub_em import mentions
from tests.helpers.questions import CORPUS, MUSIQUE
from tests.helpers.worked_answers import WorkedAnswers


@pytest.fixture(autouse=True)
def worked_answers(monkeypatch):
    monkeypatch.setattr(run, "make_sampler", lambda args: WorkedAnswers(args.input))


def arguments(output, tokenizer, **changes) -> BuildArguments:
    sizes = {"short_tokens": 512, "long_tokens": 1280, "num_examples": 24}
    files = {"output": str(output), "tokenizer": str(tokenizer), "dataset_info": str(output.parent / "info.json")}
    source = {"source": "musique", "input": str(CORPUS), "template": "qwen"}
    return BuildArguments(**{**source, **sizes, **files, **changes})


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(examples: list[dict], args: BuildArguments) -> None:
    renderer = Renderer(args.tokenizer, args.template)
    for example in examples:
        assert list(example) == ["id", "short_prompt", "long_prompt", "chosen", "rejected", "meta"]
        assert all(isinstance(value, str) for value in example.values())
        meta = json.loads(example["meta"])
        for view, budget in (("short", args.short_tokens), ("long", args.long_tokens)):
            prompt = example[f"{view}_prompt"]
            assert renderer.count(prompt) == meta["tokens"][view] <= budget
            for title, position in zip(meta["evidence"], meta["evidence_positions"][view]):
                assert f"Document {position}:\n{title}\n" in prompt
        assert f"The answer is {meta['answers'][0].rstrip('.')}." in example["chosen"]
        assert not mentions(example["rejected"], meta["answers"])
        assert meta["infer_backend"] == "huggingface" and meta["model"] == args.model_name_or_path


def test_a_build_and_the_same_again(tmp_path, qwen_tokenizer, capsys):
    one, two = tmp_path / "new" / "one.jsonl", tmp_path / "two.jsonl"
    args = arguments(one, qwen_tokenizer, num_held_out=5)
    run_build(args)
    text = capsys.readouterr().out
    assert f"Wrote 24 pairs to {one}" in text and "Wrote 5 held-out pairs to" in text
    assert "evidence alone over short_tokens" in text and "Train with `dataset: one`" in text
    examples, held_out = read(one), read(tmp_path / "new" / "one_heldout.jsonl")
    check(examples + held_out, args)
    assert len(held_out) == 5 and not {row["id"] for row in examples} & {row["id"] for row in held_out}
    assert json.loads(examples[0]["meta"])["licence"] == "CC BY 4.0"
    report = (tmp_path / "new" / "one.build" / "report.html").read_text(encoding="utf-8")
    assert json.loads(examples[0]["meta"])["question"][:20] in report or "24" in report

    run_build(arguments(two, qwen_tokenizer, num_held_out=5))
    assert one.read_bytes() == two.read_bytes()
    for name in ("contexts.jsonl", "samples.jsonl", "selection.json"):
        assert (tmp_path / "new" / "one.build" / name).read_bytes() == (tmp_path / "two.build" / name).read_bytes()
    assert [path.name for path in tmp_path.rglob(".*")] == []
    capsys.readouterr()
    run_build(arguments(two, qwen_tokenizer, num_held_out=5))  # nothing left to do
    assert "is there already" in capsys.readouterr().err and one.read_bytes() == two.read_bytes()


def test_the_host_reads_the_views(tmp_path, qwen_tokenizer):
    from datasets import load_dataset
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments

    output = tmp_path / "mine.jsonl"
    run_build(arguments(output, qwen_tokenizer, num_examples=4, dataset_info=str(tmp_path / "dataset_info.json")))
    rows = load_dataset("json", data_files=str(output), cache_dir=str(tmp_path / "cache"), split="train")
    for view in ("short", "long"):
        (attr,) = get_dataset_list([f"mine_{view}"], str(tmp_path))
        row = get_dataset_converter(attr.formatting, attr, DataArguments())(rows[0])
        assert row["_prompt"] == [{"role": "user", "content": rows[0][f"{view}_prompt"]}]
        assert [turn["content"] for turn in row["_response"]] == [rows[0]["chosen"], rows[0]["rejected"]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "qwenn"}, "template 'qwenn' is refused by LLaMA-Factory"),
        ({"tokenizer": "/nowhere/at/all"}, "tokenizer '/nowhere/at/all' cannot be loaded"),
        ({"short_tokens": 50}, "no context could be made from"),
    ],
)
def test_bad_input_leaves_no_file(tmp_path, qwen_tokenizer, changes, words):
    with pytest.raises(SolopoError) as caught:
        run_build(arguments(tmp_path / "out.jsonl", changes.pop("tokenizer", qwen_tokenizer), **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here")
@pytest.mark.parametrize(("tokenizer", "template"), [("qwen_tokenizer", "qwen"), ("llama_tokenizer", "llama3")])
def test_real_musique(tmp_path, request, tokenizer, template):
    tokenizer = request.getfixturevalue(tokenizer)
    output = tmp_path / "musique.jsonl"
    budgets = {"short_tokens": 1400, "long_tokens": 5000}
    source = {"source": "musique", "input": str(MUSIQUE), "num_examples": 30, "template": template}
    args = arguments(output, tokenizer, **source, **budgets)
    run_build(args)
    examples = read(output)
    assert len(examples) == 30
    check(examples, args)
    summary = json.loads((tmp_path / "musique.build" / "synthesis.json").read_text())
    assert not summary["shortfalls"]["long"]
    assert min(json.loads(row["meta"])["tokens"]["long"] for row in examples) > 4900  # within 2% of the budget
    records = {item["id"]: item for item in map(json.loads, MUSIQUE.read_text(encoding="utf-8").splitlines())}
    for example in examples:
        for item in records[example["id"]]["paragraphs"]:
            if item["is_supporting"]:
                text = item["paragraph_text"].strip()
                assert text in example["short_prompt"] and text in example["long_prompt"]
