"""The whole build with a real tokenizer and LLaMA-Factory's templates."""

import json

import pytest

from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.build import atomic_writer, build, quantiles, run_build
from solopo_llamafactory.construct.errors import ConstructError
from solopo_llamafactory.construct.rendering import Renderer
from solopo_llamafactory.construct.text import contains_substring

from .helpers import CORPUS, MUSIQUE, record, write_lines


def arguments(output, tokenizer, **changes) -> BuildArguments:
    values = {"source": "demo", "input": str(CORPUS), "short_tokens": 512, "long_tokens": 1280, "num_examples": 24}
    return BuildArguments(
        **{**values, "output": str(output), "tokenizer": str(tokenizer), "template": "qwen", **changes}
    )


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(examples: list[dict], renderer: Renderer, short_tokens: int, long_tokens: int) -> None:
    for example in examples:
        assert list(example) == ["id", "short_prompt", "long_prompt", "chosen", "rejected", "meta"]
        assert all(isinstance(value, str) for value in example.values())
        meta = json.loads(example["meta"])
        for view, budget in (("short", short_tokens), ("long", long_tokens)):
            prompt = example[f"{view}_prompt"]
            assert renderer.count(prompt) == meta["tokens"][view] <= budget
            for title, position in zip(meta["evidence"], meta["evidence_positions"][view]):
                assert f"Document {position}:\n{title}\n" in prompt
        assert f"The answer is {meta['answers'][0].rstrip('.')}." in example["chosen"]
        assert not contains_substring(example["rejected"], meta["answers"])
        assert meta["responses"] == "templated"


def test_demo(tmp_path, qwen_tokenizer, capsys):
    one, two = tmp_path / "new" / "one.jsonl", tmp_path / "two.jsonl"
    run_build(arguments(one, qwen_tokenizer))
    text = capsys.readouterr().out
    assert f"Wrote 24 examples to {one}" in text and "Long prompt tokens: min" in text
    assert '"one_long"' in text and "evidence alone over short_tokens" in text
    build(arguments(two, qwen_tokenizer))
    assert one.read_bytes() == two.read_bytes()
    build(arguments(two, qwen_tokenizer, seed=43))
    assert one.read_bytes() != two.read_bytes()
    check(read(one), Renderer(qwen_tokenizer, "qwen"), 512, 1280)
    assert json.loads(read(one)[0]["meta"])["licence"] == "Apache-2.0"
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_the_host_reads_the_views(tmp_path, qwen_tokenizer, monkeypatch):
    from datasets import load_dataset
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments

    from solopo_llamafactory.construct.registration import dataset_entries

    output = tmp_path / "mine.jsonl"
    build(arguments(output, qwen_tokenizer, num_examples=4))
    (tmp_path / "dataset_info.json").write_text(json.dumps(dataset_entries("mine", "mine.jsonl")))
    rows = load_dataset("json", data_files=str(output), cache_dir=str(tmp_path / "cache"), split="train")
    for view in ("short", "long"):
        (attr,) = get_dataset_list([f"mine_{view}"], str(tmp_path))
        row = get_dataset_converter(attr.formatting, attr, DataArguments())(rows[0])
        assert row["_prompt"] == [{"role": "user", "content": rows[0][f"{view}_prompt"]}]
        assert [turn["content"] for turn in row["_response"]] == [rows[0]["chosen"], rows[0]["rejected"]]


def test_counts(tmp_path, qwen_tokenizer):
    good = [record(id=f"q{i}") for i in range(3)]
    bad = [record(id="u", answerable=False), record(id="q0")]
    path = write_lines(tmp_path / "in.jsonl", *good, *bad)
    summary = build(arguments(tmp_path / "out.jsonl", qwen_tokenizer, source="musique", input=str(path)))
    assert summary.written == 3 and summary.skipped == {"unanswerable": 1, "id seen before": 1}
    assert summary.shortfalls == {"short": 3, "long": 3}
    assert "Fewer than num_examples (24)" in summary.lines()[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "qwenn"}, "template 'qwenn' is refused by LLaMA-Factory"),
        ({"tokenizer": "/nowhere/at/all"}, "tokenizer '/nowhere/at/all' cannot be loaded"),
        ({"short_tokens": 50}, "no example could be written to"),
    ],
)
def test_bad_input_leaves_no_file(tmp_path, qwen_tokenizer, changes, words):
    with pytest.raises(ConstructError) as caught:
        build(arguments(tmp_path / "out.jsonl", changes.pop("tokenizer", qwen_tokenizer), **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_input(tmp_path):
    (tmp_path / "in.jsonl").write_text("\n")
    with pytest.raises(ConstructError, match="holds no records"):
        build(arguments(tmp_path / "out.jsonl", "x", input=str(tmp_path / "in.jsonl")))


def test_the_old_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_writer(str(path)) as file:
        file.write("new")
        raise RuntimeError
    assert [item.name for item in tmp_path.iterdir()] == ["out.jsonl"] and path.read_text() == "old"
    with pytest.raises(ConstructError, match="cannot be written"), atomic_writer(str(path / "below.jsonl")):
        pass


def test_quantiles():
    assert quantiles(list(range(101))) == "min 0, 10% 10, median 50, 90% 90, max 100"


@pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here")
@pytest.mark.parametrize(("tokenizer", "template"), [("qwen_tokenizer", "qwen"), ("llama_tokenizer", "llama3")])
def test_real_musique(tmp_path, request, tokenizer, template):
    tokenizer = request.getfixturevalue(tokenizer)
    output = tmp_path / "musique.jsonl"
    budgets = {"short_tokens": 1400, "long_tokens": 5000}
    args = {"source": "musique", "input": str(MUSIQUE), "num_examples": 30, "template": template}
    summary = build(arguments(output, tokenizer, **args, **budgets))
    examples = read(output)
    assert len(examples) == summary.written == 30
    check(examples, Renderer(tokenizer, template), *budgets.values())
    assert min(summary.tokens["long"]) > 4800 and not summary.shortfalls["long"]
    records = {item["id"]: item for item in map(json.loads, MUSIQUE.read_text(encoding="utf-8").splitlines())}
    for example in examples:
        for item in records[example["id"]]["paragraphs"]:
            if item["is_supporting"]:
                text = item["paragraph_text"].strip()
                assert text in example["short_prompt"] and text in example["long_prompt"]
