"""Every recipe parses through the host's own parser and runs as its first line says."""

import json
import re
from pathlib import Path

import pytest
import yaml
from llamafactory.hparams import get_train_args

from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.evaluate.arguments import EvalArguments
from tests.helpers.runs import ROOT, last_words, make_rows, needs_compiler, read_logs, run_command


RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BASELINES = sorted((ROOT / "recipes" / "baselines").glob("*.yaml"))
PAPER_ALPHA = {"qwen_solo_dpo": 3.0, "qwen_solo_simpo": 1.0, "qwen_solo_orpo": 1.0, "llama_solo_orpo": 4.0}


def name(path: Path) -> str:
    return path.stem


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_all_are_there():
    solo = {f"{family}_solo_{loss}" for family in ("qwen", "llama") for loss in ("orpo", "dpo", "simpo")}
    assert {path.stem for path in RECIPES} == solo | {"demo_cpu"}
    views = {f"{family}_{view}_{loss}" for family in ("qwen", "llama") for view in ("short", "long") for loss in ("orpo", "dpo", "simpo")}  # fmt: skip
    assert {path.stem for path in BASELINES} == views


@pytest.mark.parametrize("path", RECIPES + BASELINES, ids=name)
def test_the_hosts_parser_takes_it(path, tmp_path):
    """As it stands, but for what this machine cannot do: bf16 and several GPUs."""
    recipe = {**read(path), "bf16": False, "deepspeed": None, "output_dir": str(tmp_path / "output")}
    _, data_args, _, finetuning_args, _ = get_train_args(recipe)
    assert finetuning_args.stage == recipe["stage"]
    assert data_args.dataset == [recipe["dataset"]]


@pytest.mark.parametrize("path", RECIPES + BASELINES, ids=name)
def test_it_opens_with_its_command(path):
    first = path.read_text().splitlines()[0]
    assert re.fullmatch(rf"# llamafactory-cli train {path.relative_to(ROOT)}", first)


@pytest.mark.parametrize("path", RECIPES + BASELINES, ids=name)
def test_its_dataset_is_registered(path):
    info = json.loads((ROOT / "dataset_info.json").read_text())
    entry = info[read(path)["dataset"]]
    assert (entry.get("formatting") == "solopo") == (read(path)["stage"] == "solopo")


@pytest.mark.parametrize("path", RECIPES + BASELINES, ids=name)
def test_its_head_names_the_build_that_makes_its_data(path):
    (build,) = set(re.findall(r"`solopo build (\S+\.yaml)`", "".join(path.read_text().splitlines(True)[:3])))
    entry = json.loads((ROOT / "dataset_info.json").read_text())[read(path)["dataset"]]
    assert entry["file_name"] == read(ROOT / build)["output"]


@pytest.mark.parametrize("recipe, alpha", PAPER_ALPHA.items())
def test_the_papers_alpha(recipe, alpha):
    assert read(ROOT / "recipes" / f"{recipe}.yaml")["solopo_alpha"] == alpha


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_says_where_it_departs_from_the_papers_formula(path):
    """The argument stands there, with the paper's word behind it."""
    paper = {"solopo_gradient": "both"} | ({"solopo_reference": "matched"} if path.stem.endswith("dpo") else {})
    for argument, value in paper.items():
        (line,) = (line for line in path.read_text().splitlines() if line.startswith(f"{argument}: "))
        assert read(path)[argument] != value and f"# ours; the paper's formula: {value}" in line


@pytest.mark.parametrize("path", BASELINES, ids=name)
def test_a_baseline_differs_in_what_it_compares_alone(path):
    family, _, loss = path.stem.split("_")
    solo = read(ROOT / "recipes" / f"{family}_solo_{loss}.yaml")
    different = {key for key in solo.keys() | read(path).keys() if solo.get(key) != read(path).get(key)}
    assert {key for key in different if not key.startswith("solopo_")} == {"stage", "dataset", "output_dir"}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "data").glob("*.yaml")), ids=name)
def test_a_data_recipe_has_known_keys(path):
    assert set(read(path)) <= set(BuildArguments.__dataclass_fields__)
    assert path.read_text().splitlines()[0].endswith(f"solopo build {path.relative_to(ROOT)}")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "eval").glob("*.yaml")), ids=name)
def test_an_evaluation_recipe_is_taken(path):
    """As it stands, but for the training pairs, which are made by another recipe."""
    assert path.read_text().splitlines()[0].endswith(f"solopo eval {path.relative_to(ROOT)}")
    args = EvalArguments(**read(path) | {"exclude": None})
    if path.stem == "two_hop":  # no pretrained model's
        return
    assert args.task == path.stem and args.lengths[0] == 1000 and args.lengths[-1] == 128000
    data = {read(recipe)["output"] for recipe in (ROOT / "recipes" / "data").glob("*.yaml")}
    assert read(path)["exclude"] in data


def run_two_steps(path: Path, tmp_path: Path, model: str) -> None:
    """The recipe's own command with path, precision and length overrides only; ZeRO-3 as it stands."""
    data = tmp_path / "data"
    data.mkdir()
    info = json.loads((ROOT / "dataset_info.json").read_text())
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    rows = "".join(json.dumps(row) + "\n" for row in make_rows(8))
    (tmp_path / info[read(path)["dataset"]]["file_name"]).write_text(rows)
    overrides = {
        "model_name_or_path": model,
        "dataset_dir": tmp_path,
        "output_dir": tmp_path / "output",
        "bf16": "false",
        "cutoff_len": 512,
        "max_steps": 2,
    }
    command = ["llamafactory-cli", "train", str(path.relative_to(ROOT))]
    result = run_command(command + [f"{key}={value}" for key, value in overrides.items()], NPROC_PER_NODE="1")
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" not in result.stdout
    assert len(read_logs(str(tmp_path / "output"))) == 2
    assert (tmp_path / "output" / "training_loss.png").is_file()


@needs_compiler
@pytest.mark.parametrize("path", [path for path in RECIPES if "solo" in path.stem], ids=name)
def test_it_runs(path, tmp_path, tiny_qwen2, tiny_llama):
    run_two_steps(path, tmp_path, tiny_qwen2 if path.stem.startswith("qwen") else tiny_llama)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", BASELINES, ids=name)
def test_a_baseline_runs(path, tmp_path, tiny_qwen2, tiny_llama):
    run_two_steps(path, tmp_path, tiny_qwen2 if path.stem.startswith("qwen") else tiny_llama)
