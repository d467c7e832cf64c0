"""`make demo` shows what README says: the recipes of the demo, run one after another as they stand."""

import pytest

from experiments.two_hop.demo_seeds import markdown, run_demo
from tests.helpers.runs import ROOT


BASE = ROOT / "data" / "two_hop" / "base"


@pytest.mark.slow
def test_it_gets_better_on_long_contexts_and_stays_good_on_short_ones(tmp_path, monkeypatch):
    """At the training length at least 15 points, and at most 5 lost on short contexts."""
    monkeypatch.chdir(ROOT)
    results = run_demo(tmp_path)
    before, after = (results["models"][name]["by_length"] for name in ("base", "SoLo-SimPO"))
    assert after["1024"]["score"] >= before["1024"]["score"] + 15
    assert after["76"]["score"] >= before["76"]["score"] - 5
    assert results["models"]["SoLo-SimPO"]["difference"]["by_length"]["1024"]["low"] > 15


def test_a_row_a_seed():
    def group(long: float, short: float) -> dict:
        values = {"1024": long, "76": short}
        return {length: {"score": score, "low": score - 5, "high": score + 5} for length, score in values.items()}

    models = {
        "base": {"by_length": group(11.7, 98)},
        "SoLo-SimPO": {"by_length": group(41.7, 97), "difference": {"by_length": group(30, -1)}},
    }
    row = markdown({"7": {"models": models}}).splitlines()[-1]
    assert row == "| 7 | 11.7 -> 41.7 | +30.0 [+25.0, +35.0] | 98.0 -> 97.0 | -1.0 [-6.0, +4.0] |"


def test_the_base_is_small_and_holds_no_code():
    assert sum(path.stat().st_size for path in BASE.iterdir()) < 1_000_000
    assert {path.suffix for path in BASE.iterdir()} <= {".json", ".jinja", ".safetensors"}
