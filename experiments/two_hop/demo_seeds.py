"""`make demo` with other seeds: training questions, samples and training change, the base and the test questions do not.

python -m experiments.two_hop.demo_seeds --seeds 1,2,3,4,5
"""

import argparse
import json
import sys
from pathlib import Path

import yaml
from llamafactory.train.tuner import run_exp

import solopo_llamafactory
from solopo_llamafactory.common.files import atomic_writer, write_json
from solopo_llamafactory.common.markdown import table
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from solopo_llamafactory.evaluate.arguments import EvalArguments
from solopo_llamafactory.evaluate.run import run_eval
from solopo_llamafactory.evaluate.table import interval


TRAINED = "SoLo-SimPO"  # the name in recipes/eval/two_hop.yaml
LENGTHS = ("1024", "76")


def read_recipe(name: str) -> dict:
    """A recipe by its path in recipes/, from the repository root."""
    return yaml.safe_load(Path("recipes", name).read_text())


def run_demo(folder: Path, seed: int | None = None) -> dict:
    """The demo's three recipes with all files in `folder`; returns results.json of the evaluation.

    Args:
        seed: of training questions, samples and training; the recipes' own without it.
    """
    build, train, grid = map(read_recipe, ("data/two_hop.yaml", "demo_cpu.yaml", "eval/two_hop.yaml"))
    if seed is not None:
        questions = json.loads(Path(build["input"]).read_text()) | {"seed": f"demo {seed}"}
        write_json(folder / "train.json", questions)
        build |= {"input": str(folder / "train.json"), "seed": seed}
        train |= {"seed": seed}
    pairs, info, model = folder / "data" / "two_hop_pairs.jsonl", folder / "dataset_info.json", folder / "model"
    run_build(BuildArguments(**build | {"output": str(pairs), "dataset_info": str(info)}))
    run_exp(train | {"dataset_dir": str(folder), "output_dir": str(model), "disable_tqdm": True})
    (trained,) = (each for each in grid["models"] if each["name"] == TRAINED)
    trained["model_name_or_path"] = str(model)
    run_eval(EvalArguments(**grid | {"output": str(folder / "eval")}))
    return json.loads((folder / "eval" / "results.json").read_text())


def markdown(results: dict[str, dict]) -> str:
    """A row a seed: right answers in % before, after, and the paired difference with its 95% interval."""
    header = ["seed"]
    for length in LENGTHS:
        header += [f"{length} tokens", "difference"]
    rows = []
    for seed, result in results.items():
        before, after = (result["models"][name] for name in ("base", TRAINED))
        cells = [seed]
        for length in LENGTHS:
            scores = (model["by_length"][length]["score"] for model in (before, after))
            cells.append(" -> ".join(f"{score:.1f}" for score in scores))
            cells.append(interval(after["difference"]["by_length"][length], "+"))
        rows.append(cells)
    return table(header, rows) + "\n"


def main() -> None:
    """Seeds that an earlier run has finished are not run again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--output", default="saves/demo_seeds", type=Path)
    arguments = parser.parse_args()
    solopo_llamafactory.enable()  # where the package is not installed, and PyTorch does not call its hook
    results = {}
    for seed in arguments.seeds.split(","):
        finished = arguments.output / f"{seed}.json"
        if not finished.is_file():
            write_json(finished, run_demo(arguments.output / seed, int(seed)))
        results[seed] = json.loads(finished.read_text())
    with atomic_writer(arguments.output / "table.md") as file:
        file.write(markdown(results))
    print(markdown(results))
    print(f"In {arguments.output}: table.md, and a folder a seed.", file=sys.stderr)


if __name__ == "__main__":
    main()
