"""Scores: what counts and what does not."""

import json

import numpy as np
import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import write_json
from solopo_llamafactory.evaluate.scoring import score
from solopo_llamafactory.sampling.marks import Marks
from tests.helpers.made_up import make_run, simulate


FITTING = [(0, 0.0), (1, 0.0), (1, 1.0)]


def cells(model: dict, key: str = "score") -> list:
    return [cell[key] for cell in model["cells"]]


def test_small_numbers_by_hand(tmp_path):
    # Signs of a question: length 1000 at depth 0 and 1, then length 4000 at depth 0 and 1.
    outcomes = {"base": ["++--", "+---", "--~-", "++++"], "solo": ["++++", "+-+-", "--++", "+++-"]}
    args = make_run(tmp_path / "run", outcomes, questions=4, hops=[2, 2, 3, 4])
    results = score(args)
    base, solo = results["models"].values()
    assert cells(base) == [75, 50, 25, 25] and cells(base, "right") == [3, 2, 1, 1] and cells(base, "n") == [4] * 4
    assert cells(solo) == [75, 50, 100, 50] and set(cells(solo, "state")) == {"scored"}
    assert [base["by_length"][key]["score"] for key in ("1000", "4000")] == [62.5, 25]
    assert [base["by_depth"][key]["score"] for key in ("0.0", "1.0")] == [50, 37.5]
    assert {hops: group["score"] for hops, group in base["by_hops"].items()} == {"2": 37.5, "3": 0, "4": 100}
    assert base["all"]["score"] == 43.75 and base["all"]["n"] == 16
    assert (base["asked"], base["unfinished"], base["missing"]) == (16, 1, 0)
    assert "difference" not in base
    difference = solo["difference"]
    assert cells(difference) == [0, 0, 75, 25]
    assert [difference["by_length"][key]["score"] for key in ("1000", "4000")] == [0, 50]
    assert {hops: group["score"] for hops, group in difference["by_hops"].items()} == {"2": 37.5, "3": 50, "4": -25}
    assert difference["all"]["score"] == 25 and difference["all"]["low"] < 25 < difference["all"]["high"]
    assert (results["baseline"], results["questions"]) == ("base", 4)
    assert results["common_lengths"] == results["lengths"] == [1000, 4000]
    assert (results["source"], results["licence"], results["task"]) == ("musique", "CC BY 4.0", "multi_doc")
    assert json.loads((tmp_path / "run/results.json").read_text()) == results


def test_what_follows_the_thoughts_is_judged_and_what_is_no_answer_is_named(tmp_path):
    args = make_run(tmp_path / "run", {"base": ["++++"] * 2, "other": ["+++-"] * 2})
    texts = [
        "<think>\nThe answer is Esk.\n</think>\n\nThe answer is Orm.",
        "Esk or Orm? The answer is Orm.</think>Esk.<|im_end|>",
        "",
        "<think>The answer is Esk.",
        "Esk<|eot_id|>",
        "<think>Esk</think>",
        "Esk<|eot_id|>.",
        "Esk</s>",
    ]
    path = args.answers_path("base")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, text in zip(rows, texts):
        row["samples"][0]["text"] = text
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = score(args, {"base": Marks(ends=("<|im_end|>",))})
    base = results["models"]["base"]
    assert sum(cells(base, "right")) == 4 and base["end_marks"] == 1
    assert base["problems"] == {
        "empty": 1,
        "thoughts without an end": 1,
        "thoughts without an answer": 1,
        "control token <|eot_id|>": 2,
        "control token </s>": 1,
    }
    assert results["models"]["other"]["problems"] == {} and results["models"]["other"]["end_marks"] == 0
    table = (tmp_path / "run/table.md").read_text()
    assert "- base: 3 of 8 answers hold no answer (1 empty, 1 thoughts without an answer, 1 thoughts" in table
    assert "- base: 3 of 8 answers hold a control token (2 <|eot_id|>, 1 </s>) and are judged as they stand: " in table
    assert "- base: 1 of 8 answers came with the template's end mark, which is removed." in table


def test_the_wording_says_what_of_an_answer_is_judged(tmp_path):
    """ "Esk. The answer is in document 2." is right where all of it is judged; the page is of the same mind."""
    args = make_run(tmp_path / "run", {"base": ["----"] * 2}, text="Esk. The answer is in document 2. ")
    scores = []
    for args.wording in ("cot", "direct"):
        scores.append(score(args)["models"]["base"]["all"]["score"])
    assert scores == [0, 100]
    other = json.loads(args.grid_path.read_text()) | {"other_texts": ["instruction", "marker"]}
    write_json(args.grid_path, other)
    score(args)
    sentence = "The wording of the prompts differs from that of the pairs under `exclude` (instruction, marker)."
    assert sentence in (args.folder / "table.md").read_text()


def test_lengths_beyond_the_window_are_not_wrong_answers(tmp_path):
    windows = {"base": 9000, "small": 2000}
    results = score(make_run(tmp_path / "run", {"base": ["++--"] * 3, "small": ["++??"] * 3}, windows, 3))
    base, small = results["models"].values()
    assert cells(small, "state") == ["scored"] * 2 + ["beyond the window"] * 2
    assert small["by_length"]["4000"] is None and small["difference"]["by_length"]["4000"] is None
    assert (small["asked"], small["missing"], small["window"]) == (6, 0, 2000)
    assert base["by_length"]["4000"]["score"] == 0
    # Over all lengths both count where both could: the long contexts would pull the base down alone.
    assert results["common_lengths"] == [1000]
    assert base["all"]["score"] == small["all"]["score"] == base["by_depth"]["0.0"]["score"] == 100
    table = (tmp_path / "run/table.md").read_text()
    assert "| small | 100.0 [100.0, 100.0] | beyond the window | 100.0 [100.0, 100.0] |" in table
    assert "small takes 2,000 tokens, prompt and answer together: 4,000 tokens is beyond its window" in table
    assert "are of 1,000 tokens, which every model takes" in table


@pytest.mark.parametrize("window, fits", [(3990 + 64, True), (3990 + 63, False)])
def test_prompt_and_answer_share_the_window(tmp_path, window, fits):
    results = score(make_run(tmp_path / "run", {"base": ["++++"] * 2}, {"base": window}))
    assert results["common_lengths"] == ([1000, 4000] if fits else [1000])


def test_one_context_that_does_not_fit_takes_its_length_with_it(tmp_path):
    """The others are those with short documents: no fair choice of questions."""
    outcomes, window = {"base": ["+++?", "++++"]}, {"base": 4000}
    results = score(make_run(tmp_path / "run", outcomes, window, tokens={f"q{i}|4000|{d}": 3000 for i, d in FITTING}))
    base = results["models"]["base"]
    assert cells(base, "state") == ["scored"] * 2 + ["beyond the window"] * 2
    assert base["by_length"]["4000"] is None and (base["asked"], base["missing"]) == (4, 0)


def test_no_length_in_common(tmp_path):
    results = score(make_run(tmp_path / "run", {"base": ["++--"] * 2, "none": ["????"] * 2}, {"none": 10}))
    assert results["common_lengths"] == []
    assert results["models"]["base"]["all"] is None and results["models"]["base"]["by_length"]["1000"]["score"] == 100
    assert results["models"]["none"]["asked"] == 0
    assert "leave out models with small windows" in (tmp_path / "run/table.md").read_text()


def test_missing_answers_are_counted_and_not_wrong(tmp_path):
    outcomes = {"base": ["++-+", "+???"], "solo": ["+?-+", "-+??"], "later": ["????"] * 2}
    args = make_run(tmp_path / "run", outcomes)
    (tmp_path / "run/answers/later.jsonl").unlink()
    models = score(args)["models"]
    assert (models["base"]["missing"], models["solo"]["missing"], models["later"]["missing"]) == (3, 3, 8)
    assert cells(models["base"]) == [100, 100, 0, 100] and models["base"]["all"]["score"] == 80
    assert set(cells(models["later"], "state")) == {"not asked"} and models["later"]["all"] is None
    # Paired: q0 at three cells and q1 at one, where both answered.
    difference = models["solo"]["difference"]
    assert cells(difference, "n") == [2, 0, 1, 1] and cells(difference) == [-50, None, 0, 0]
    assert difference["all"]["score"] == -25 and models["later"]["difference"]["all"] is None
    table = (tmp_path / "run/table.md").read_text()
    assert "14 of 24 answers are missing (base 3, solo 3, later 8)" in table
    assert "| later | - | - | - |" in table


def test_answers_of_an_earlier_grid_do_not_count(tmp_path):
    args = make_run(tmp_path / "run", {"base": ["++++"] * 2})
    with open(tmp_path / "run/answers/base.jsonl", "a") as file:
        file.write(
            json.dumps({"id": "q0|9000|0.5", "settings": "s", "samples": [{"text": "", "finish": "stop"}]}) + "\n"
        )
    assert score(args)["models"]["base"]["all"] == {"n": 8, "score": 100, "low": 100, "high": 100}


def test_pairing_narrows_differences(tmp_path):
    chances = [0.5, 0.5, 0.5, 0.5]
    outcomes = {name: simulate(chances, 80, seed, spread=0.5) for seed, name in enumerate(("base", "solo"))}
    base, solo = score(make_run(tmp_path / "run", outcomes, questions=80))["models"].values()
    widths = [group["high"] - group["low"] for group in (base["all"], solo["all"], solo["difference"]["all"])]
    assert widths[2] < 0.8 * np.hypot(widths[0], widths[1])


@pytest.mark.parametrize("name", ["contexts.jsonl", "answers/base.json", "grid.json"])
def test_a_missing_file_is_named(tmp_path, name):
    args = make_run(tmp_path / "run", {"base": ["++++"] * 2})
    (tmp_path / "run" / name).unlink()
    with pytest.raises(SolopoError, match=f"{name}.*solopo eval"):
        score(args)


def test_an_empty_grid_is_one_sentence(tmp_path):
    with pytest.raises(SolopoError, match="holds no contexts"):
        score(make_run(tmp_path / "run", {"base": []}, questions=0))
