"""`solopo compare`: result files in lm_eval's form beside the paper's table."""

import json
import math
from pathlib import Path

import pytest

from solopo_llamafactory.cli import main
from solopo_llamafactory.evaluate.compare import AVERAGES


def longbench(value: float, stderr: float | str = 0.02) -> dict:
    """What lm_eval writes for one LongBench task."""
    return {
        "alias": "x",
        "sample_len": 200,
        "score,none": value,
        "score_stderr,none": stderr,
        "qa_f1_score,none": value,
    }


def ruler(**lengths: float) -> dict:
    """What lm_eval writes for one RULER task: -1 for a length that was not asked for, no standard errors."""
    values = {"4096": -1, "8192": -1, "131072": -1} | {
        name.removeprefix("at"): value for name, value in lengths.items()
    }
    errors = {f"{length}_stderr,none": "N/A" for length in values}
    return {"alias": "x", "sample_len": 500, **{f"{length},none": value for length, value in values.items()}, **errors}


def write(folder: Path, results: dict, model: str = "m", date: str = "2026-01-01T00-00-00.000001", **more) -> None:
    """A result file where lm_eval puts it."""
    path = folder / model / f"results_{date}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"results": results, "model_name": model, "config": {"model": "hf", "model_args": {}, "limit": None}}
    path.write_text(json.dumps(content | more))


def compare(capsys, **folders: Path) -> str:
    """The page of the command."""
    assert main(["compare", *(f"{name}={folder}" for name, folder in folders.items())]) == 0
    return capsys.readouterr().out


def row(page: str, name: str) -> list[str]:
    """The cells of the only row that begins with a name."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_averages_stand_beside_the_papers(capsys, tmp_path):
    tasks = list(AVERAGES["LongBench QA"])
    write(tmp_path / "a", {task: longbench(0.1 * i) for i, task in enumerate(tasks)})
    write(tmp_path / "b", {task: longbench(0.5, stderr="N/A") for task in tasks})
    page = compare(capsys, base=tmp_path / "a", trained=tmp_path / "b")
    assert row(page, "model") == ["LongBench QA", "RULER QA", "NIAH-Plus"]
    assert row(page, "base") == [f"25.0 ± {2 / math.sqrt(6):.1f}", "-", "-"]
    assert row(page, "trained") == ["50.0", "-", "-"]
    assert row(page, "paper: Qwen2.5-7B-Instruct") == ["34.4", "44.0", "-"]
    assert row(page, "paper: SoLo-ORPO") == ["49.5", "65.1", "66.6"]
    assert row(page, "longbench_qasper") == ["score", "10.0 ± 2.0", "50.0"]


def test_an_average_is_over_what_every_model_has(capsys, tmp_path):
    """Else a model measured at 128K too would look worse than one that was not."""
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at4096=0.8, at8192=0.6), "ruler_qa_hotpot": ruler(at4096=0.4)})
    write(tmp_path / "b", {"ruler_qa_squad": ruler(at4096=0.9, at131072=0.1), "ruler_qa_hotpot": ruler(at4096=0.5)})
    page = compare(capsys, base=tmp_path / "a", trained=tmp_path / "b")
    assert row(page, "model")[1] == "RULER QA, 4K"
    assert (row(page, "base")[1], row(page, "trained")[1]) == ("60.0", "70.0")
    assert "RULER QA leaves out what base has and another row lacks: ruler_qa_squad at 8K." in page
    assert "RULER QA leaves out what trained has and another row lacks: ruler_qa_squad at 128K." in page
    assert "| ruler_qa_squad | 128K tokens | - | 10.0 |" in page


def test_a_task_weighs_the_same_whatever_its_lengths(capsys, tmp_path):
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at4096=1.0, at8192=0.5), "ruler_qa_hotpot": ruler(at4096=0.25)})
    assert row(compare(capsys, base=tmp_path / "a"), "base")[1] == "50.0"


def test_a_missing_task_is_named(capsys, tmp_path):
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at4096=0.8)})
    assert "RULER QA is without ruler_qa_hotpot, which not every row has." in compare(capsys, base=tmp_path / "a")


def test_files_of_one_model_are_put_together_and_the_newest_counts(capsys, tmp_path):
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at4096=0.8, at8192=0.7)}, date="2026-01-02T00-00-00.000001")
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at131072=0.2)}, date="2026-01-03T00-00-00.000001")
    write(tmp_path / "a", {"ruler_qa_squad": ruler(at8192=0.1)}, date="2026-01-01T00-00-00.000001")
    page = compare(capsys, base=tmp_path / "a")
    assert [f"| ruler_qa_squad | {length} tokens | {value} |" in page for length, value in (("4K", 80.0), ("8K", 70.0), ("128K", 20.0))] == [True] * 3  # fmt: skip


def test_the_leaderboard_is_its_six_groups(capsys, tmp_path):
    results = {
        "leaderboard": {"acc,none": 0.9},
        "leaderboard_ifeval": {"inst_level_strict_acc,none": 0.4, "prompt_level_strict_acc,none": 0.2, "inst_level_loose_acc,none": 1.0},
        "leaderboard_bbh": {"acc_norm,none": 0.3},
        "leaderboard_bbh_navigate": {"acc_norm,none": 0.99},
        "leaderboard_math_hard": {"exact_match,none": 0.3},
        "leaderboard_gpqa": {"acc_norm,none": 0.3},
        "leaderboard_musr": {"acc_norm,none": 0.3},
        "leaderboard_mmlu_pro": {"acc,none": 0.3},
    }  # fmt: skip
    write(tmp_path / "a", results)
    page = compare(capsys, base=tmp_path / "a")
    assert row(page, "base")[-2] == "30.0" and "bbh_navigate" not in page and "90.0" not in page


def test_other_tasks_are_listed(capsys, tmp_path):
    write(
        tmp_path / "a",
        {"mine": {"score,none": 0.25, "score_stderr,none": 0.01, "perplexity,none": 7.3, "x,none": "N/A"}},
    )
    page = compare(capsys, **{"ba|se": tmp_path / "a"})
    assert "| mine | score | 25.0 ± 1.0 |" in page and "| mine | perplexity, as given | 7.3 |" in page
    assert "| task | metric | ba\\|se |" in page and "| x |" not in page


def test_different_settings_and_limits_are_said(capsys, tmp_path):
    write(tmp_path / "a", {"mine": {"score,none": 0.2, "sample_len": 4}}, chat_template_sha="abc")
    config = {"model": "hf", "model_args": {"rope_parameters": {"rope_type": "yarn"}}, "limit": 2}
    write(tmp_path / "b", {"mine": {"score,none": 0.3, "sample_len": 2}}, config=config)
    notes = compare(capsys, base=tmp_path / "a", trained=tmp_path / "b").split("## What is comparable")[1]
    for key in ("chat template", "number of questions", "RoPE", "--limit"):
        assert f"base and trained differ in {key}: mine." in notes
    assert "trained was measured with --limit, on a part of the questions: mine." in notes
    assert "differ" not in compare(capsys, base=tmp_path / "a", again=tmp_path / "a")


def test_the_page_is_written_too(capsys, tmp_path):
    write(tmp_path / "a", {"mine": {"score,none": 0.2}})
    output = tmp_path / "new" / "table.md"
    assert main(["compare", f"base={tmp_path / 'a'}", f"output={output}"]) == 0
    assert output.read_text() == capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "has no `results` of lm_eval"),
        ('{"results": {"task": 3}}', "has no `results` of lm_eval"),
        ('{"results": {}}', "without a single score"),
        ('{"results": {"task": {"score,none": NaN, "alias": "x"}}}', "without a single score"),
    ],
)
def test_a_broken_file_is_one_sentence(content, words, capsys, tmp_path):
    write(tmp_path / "a", {})
    next((tmp_path / "a").rglob("*.json")).write_text(content)
    assert main(["compare", f"base={tmp_path / 'a'}"]) == 1
    error = capsys.readouterr().err
    assert words in error and "run lm_eval again" in error and error.count("\n") == 1


def test_results_of_two_models_in_a_folder(capsys, tmp_path):
    for model in ("one", "two"):
        write(tmp_path / "a", {"mine": {"score,none": 0.2}}, model=model)
    assert main(["compare", f"base={tmp_path / 'a'}"]) == 1
    assert "holds results of several models (one, two): give the folder of one." in capsys.readouterr().err
    assert main(["compare", f"base={tmp_path / 'a' / 'one'}"]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["base"], "'base' is not NAME=FOLDER"),
        (["=x"], "'=x' is not NAME=FOLDER"),
        (["base=a", "base=b"], "'base' is given twice"),
        (["output=x.md"], "no model is given"),
        (["base=nowhere"], "'nowhere' of base is not a folder"),
        (["base=."], "'.' of base holds no results_*.json: run lm_eval with --output_path . first"),
    ],
)
def test_wrong_arguments_are_one_sentence(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *argv]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_help(capsys):
    assert main(["compare"]) == main(["compare", "--help"]) == 0
    assert "NAME=FOLDER" in capsys.readouterr().out
