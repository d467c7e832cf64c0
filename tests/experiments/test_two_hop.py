"""The miniature: its choice of learning rates, its table, and all of it at the smallest size."""

import argparse
import json
import os
import sys
from functools import partial

import pytest

from experiments.two_hop import pool
from experiments.two_hop.methods import Method, methods
from experiments.two_hop.results_file import best_learning_rate, make_row, markdown, tokens_per_pair, write
from tests.helpers.runs import ROOT, read_logs


def result(**scores: list[float]) -> dict:
    """results.json with scores at the lengths 76 and 1024, intervals of 4 points around them."""
    groups = {
        name: {
            "by_length": {
                length: {"score": score, "low": score - 2, "high": score + 2}
                for length, score in zip(("76", "1024"), values)
            }
        }
        for name, values in scores.items()
    }
    return {"models": groups}


def test_the_learning_rate_is_the_best_on_both_lengths_over_all_seeds():
    method = Method("X", {}, (0.1, 0.2))
    dev = [result(**{"X_0.1": [90, 50], "X_0.2": [50, 95]}), result(**{"X_0.1": [90, 50], "X_0.2": [40, 80]})]
    assert best_learning_rate(method, dev) == 0.1  # 70 and 66.25


def test_a_row_has_mean_range_and_the_interval_of_the_mean():
    row = make_row("X", [result(a=[90, 50]), result(a=[80, 60])], "a", (76, 1024))
    group = row["lengths"]["1024"]
    assert (group["mean"], group["min"], group["max"]) == (55, 50, 60)
    assert group["high"] - group["mean"] == pytest.approx((2**2 + 2**2) ** 0.5 / 2)


def test_tokens_of_a_pair():
    tokens = {"short": 100, "long": 1000, "chosen": 10, "rejected": 8}
    by_name = {method.name: tokens_per_pair(method, tokens) for method in methods(["SimPO"], variants=False)}
    assert by_name == {
        "SFT-long": (1010, 1010),
        "short-SimPO": (218, 118),
        "long-SimPO": (2018, 1018),
        "SoLo-SimPO": (1228, 1128),
        "SoLo-SimPO, paper": (1228, 1128),
    }


def test_rows_of_all_objectives_have_names_and_folders_of_their_own():
    listed = methods(["SimPO", "ORPO", "DPO"], variants=True)
    folders = [method.folder(rate) for method in listed for rate in method.learning_rates]
    assert len(set(folders)) == len(folders)
    # SFT; of each objective short, long, SoLo and the paper's with five variants; the paper's DPO from the short reference.
    assert len({method.name for method in listed}) == len(listed) == 1 + 3 * (4 + 5) + 1


def test_every_solo_row_says_its_gradient_and_reference():
    """So that it stays what its name says when the stage's defaults move."""
    listed = {method.name: method.arguments for method in methods(["SimPO", "ORPO", "DPO"], variants=True)}
    solo = {
        name: (each["solopo_gradient"], each["solopo_reference"]) for name, each in listed.items() if "SoLo" in name
    }
    for name in ("SimPO", "ORPO", "DPO"):
        gradients = {"stop-gradient": "long", "capped": "capped"}
        assert solo.pop(f"SoLo-{name}") == ("one_sided", "short")
        assert solo.pop(f"SoLo-{name}, paper") == ("both", "matched")
        for label in ("stop-gradient", "capped", "alpha 0.5", "alpha 4", "alpha auto"):
            assert solo.pop(f"SoLo-{name}, {label}") == (gradients.get(label, "one_sided"), "short")
    assert solo == {"SoLo-DPO, paper, short reference": ("both", "short")}
    assert not any(key in listed["long-DPO"] for key in ("solopo_gradient", "solopo_reference"))


def test_the_table_and_the_picture(tmp_path):
    rows = [
        make_row("base", [result(base=[100, 20])], "base", (76, 1024)),
        make_row("SoLo-SimPO", [result(x=[99, 70])], "x", (76, 1024))
        | {"learning_rate": 4e-4, "tokens": 1228, "packed_tokens": 1128, "seconds": 1.5},
    ]
    results = {"rows": rows, "lengths": [76, 1024], "long_tokens": 1024, "objectives": ["SimPO"], "seeds": "7"}
    write(results, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    table = (tmp_path / "table.md").read_text()
    assert (
        "| SoLo-SimPO | 0.0004 | 99.0 [97.0, 100.0] (99 to 99) | 70.0 [68.0, 72.0] (70 to 70) | 1,228 | 1,128 | 1.50 |"
        in table
    )
    assert "|  | seed 7: 76 | seed 7: 1024 |" in table
    assert "| SoLo-SimPO | 99.0 [97.0, 101.0] | 70.0 [68.0, 72.0] |" in table
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_work_is_spread_over_gpus_and_comes_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "visible_gpus", lambda: ["4", "GPU-b"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = dict(os.environ)
    with pool.Pool(2, tmp_path) as workers:
        seen = [workers.run("", [partial(os.getenv, "CUDA_VISIBLE_DEVICES")] * 4, alone) for alone in (False, True)]
        assert seen == [["4", "GPU-b", "4", "GPU-b"], ["4"] * 4]
        assert workers.run("", [partial(pow, i, 2) for i in range(9)]) == [i * i for i in range(9)]
        with pytest.raises(ZeroDivisionError):
            workers.run("", [partial(divmod, 1, 0), partial(pow, 1, 1)])
    assert dict(os.environ) == before


@pytest.mark.slow
def test_a_base_is_made_by_the_host(tmp_path, monkeypatch):
    """As the one in data/two_hop: the same shape and tokenizer, and it learns."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from experiments.two_hop import __main__ as miniature

    monkeypatch.setattr(miniature, "make_base", partial(miniature.make_base, steps=60))
    monkeypatch.setattr(
        sys, "argv", ["miniature", "--base-only", str(tmp_path / "shipped"), "--output", str(tmp_path)]
    )
    miniature.main()
    shipped = ROOT / "data/two_hop/base"
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "shipped", shipped))
    assert {name: (p.shape, p.dtype) for name, p in ours.named_parameters()} == {
        name: (p.shape, p.dtype) for name, p in theirs.named_parameters()
    }
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "shipped").get_vocab()
        == AutoTokenizer.from_pretrained(shipped).get_vocab()
    )
    losses = [log["loss"] for log in read_logs(str(tmp_path / "base" / "model"))]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_all_of_it_at_the_smallest_size_and_once_more(tmp_path, monkeypatch):
    """Pairs, training, both evaluations; a second run finds all of it done."""
    from experiments.two_hop import runs
    from experiments.two_hop.__main__ import compare

    monkeypatch.chdir(ROOT)
    arguments = argparse.Namespace(size="tiny", seeds="0,1", output=tmp_path, variants=False, workers=2)
    results = compare(arguments, ["DPO"])
    names = ["base", "SFT-long", "short-DPO", "long-DPO", "SoLo-DPO"]
    names += ["SoLo-DPO, paper", "SoLo-DPO, paper, short reference"]
    assert [row["name"] for row in results["rows"]] == names
    assert all(0 <= row["lengths"]["76"]["mean"] <= 100 for row in results["rows"])
    assert results["rows"][0]["lengths"]["76"]["mean"] > 50  # the base answers short contexts
    assert all(row["seconds"] > 0 for row in results["rows"][1:])
    arguments.workers = 1
    monkeypatch.setattr(runs, "run_exp", lambda arguments, **others: pytest.fail("trained again"))
    assert compare(arguments, ["DPO"])["rows"] == results["rows"]
    assert markdown(results | {"rows": []})
