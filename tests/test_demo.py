"""`make demo` shows what README says: the recipes of the demo, run one after another as they stand."""

import json

import pytest
import yaml

from conftest import ROOT, run_host


pytestmark = pytest.mark.slow
BASE = ROOT / "data" / "two_hop" / "base"


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / "recipes" / name).read_text())


@pytest.fixture
def results(tmp_path, monkeypatch) -> dict:
    """results.json of the evaluation before and after."""
    from solopo_llamafactory.construct.arguments import BuildArguments
    from solopo_llamafactory.construct.build import run_build
    from solopo_llamafactory.evaluate.arguments import EvalArguments
    from solopo_llamafactory.evaluate.run import run_eval

    monkeypatch.chdir(ROOT)
    info = str(tmp_path / "dataset_info.json")
    pairs = str(tmp_path / "data" / "two_hop_pairs.jsonl")
    run_build(BuildArguments(**read("data/two_hop.yaml") | {"output": pairs, "dataset_info": info}))
    model = str(tmp_path / "model")
    run_host(read("demo_cpu.yaml") | {"dataset_dir": str(tmp_path), "output_dir": model, "disable_tqdm": True})
    grid = read("eval/two_hop.yaml")
    grid["models"][1]["model_name_or_path"] = model
    run_eval(EvalArguments(**grid | {"output": str(tmp_path / "eval")}))
    return json.loads((tmp_path / "eval" / "results.json").read_text())


def test_it_gets_better_on_long_contexts_and_stays_good_on_short_ones(results):
    """At the training length at least 15 points, and at most 5 lost on short contexts."""
    before, after = (results["models"][name]["by_length"] for name in ("base", "SoLo-SimPO"))
    assert after["1024"]["score"] >= before["1024"]["score"] + 15
    assert after["76"]["score"] >= before["76"]["score"] - 5
    assert results["models"]["SoLo-SimPO"]["difference"]["by_length"]["1024"]["low"] > 15


def test_the_base_is_small_and_holds_no_code():
    assert sum(path.stat().st_size for path in BASE.iterdir()) < 1_000_000
    assert {path.suffix for path in BASE.iterdir()} <= {".json", ".jinja", ".safetensors"}
