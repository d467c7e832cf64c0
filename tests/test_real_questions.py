"""`solopo build`, then `solopo eval` without its questions, on real paragraphs with a tiny model on a CPU."""

import json

import pytest

from solopo_llamafactory.cli import main
from solopo_llamafactory.questions.wording import WORDINGS
from tests.helpers.questions import XQUAD


pytestmark = pytest.mark.skipif(not XQUAD.exists(), reason="the XQuAD sample is not here")


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_build_and_eval_by_the_direct_wording(tmp_path, guessing_model, easy_xquad, capsys):
    pairs = tmp_path / "pairs.jsonl"
    common = [
        f"tokenizer={guessing_model}",
        "template=qwen",
        "source=squad",
        f"input={easy_xquad}",
        "max_new_tokens=8",
    ]
    build = [f"output={pairs}", "short_tokens=1200", "long_tokens=2400", "num_contexts=8", "n=8", "temperature=1"]
    build += [f"dataset_info={tmp_path / 'info.json'}", "num_examples=4", "wording=direct"]
    assert main(["build", *common, *build]) == 0
    rows = read(pairs)
    assert len(rows) == 4
    for row in rows:
        meta = json.loads(row["meta"])
        assert (meta["wording"], meta["source"], meta["licence"]) == ("direct", "squad", "CC BY-SA 4.0")
        assert meta["documents"]["short"] < meta["documents"]["long"] and meta["tokens"]["long"] <= 2400
        for view in ("short", "long"):
            assert row[f"{view}_prompt"].endswith(
                WORDINGS["direct"].prompt([], meta["question"])[len("Read the following documents.\n\n") :]
            )
        assert "e" in row["chosen"].lower() and "e" not in row["rejected"].lower()

    grid = [f"exclude={pairs}", "lengths=[1200,2400]", "depths=[0,1]", "num_questions=4", "task=single_doc"]
    grid += ["models=[{name: base}]", f"output={tmp_path / 'eval'}"]
    assert main(["eval", *common, *grid]) == 0
    contexts = read(tmp_path / "eval" / "contexts.jsonl")
    assert len(contexts) == 4 * 2 * 2 and all("Write only the answer" in row["prompt"] for row in contexts)
    ids = {row["id"] for row in rows}
    evidence = {json.loads(row["meta"])["question"] for row in rows}
    assert not ids & {row["question_id"] for row in contexts} and not evidence & {row["question"] for row in contexts}
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert results["arguments"]["wording"] == "direct" and results["licence"] == "CC BY-SA 4.0"
    report = (tmp_path / "eval" / "report.html").read_text()
    assert "SQuAD" in report and "CC BY-SA 4.0" in report
    assert "differs from that of the pairs" not in capsys.readouterr().out
