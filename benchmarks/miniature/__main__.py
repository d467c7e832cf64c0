"""`python -m benchmarks.miniature`: the paper's comparison on a model of 0.4 M parameters. Can be stopped and run again."""

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch

from .base import make_base
from .methods import OBJECTIVES, methods
from .results import best_learning_rate, make_row, markdown, tokens_per_pair, write
from .runs import Seed
from .sizes import SIZES


def main() -> None:
    """Makes the base alone, or all of the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miniature", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--objectives", default="SimPO,ORPO,DPO", help="which ones, of SimPO, ORPO and DPO")
    parser.add_argument("--variants", action="store_true", help="also SoLoPO with a stop-gradient, alpha 0.5 and 4")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output", default="saves/miniature", type=Path)
    parser.add_argument("--base-only", metavar="FOLDER", type=Path, help="make a base model for data/two_hop and stop")
    arguments = parser.parse_args()
    if arguments.base_only:
        make_shipped_base(arguments.base_only, arguments.output)
        return
    objectives = arguments.objectives.split(",")
    for name in objectives:
        if name not in OBJECTIVES:
            parser.error(f"'{name}' is no objective here: write some of {', '.join(OBJECTIVES)}")
    results = compare(arguments, objectives)
    folder = arguments.output / arguments.size
    write(results, folder)
    print(markdown(results))
    print(f"In {folder}: results.json, table.md, accuracy.png.", file=sys.stderr)


def compare(arguments: argparse.Namespace, objectives: list[str]) -> dict:
    """All runs; learning rates are chosen on development questions, the table is of test questions."""
    size = SIZES[arguments.size]
    listed = methods(objectives, arguments.variants)
    seeds = [Seed(arguments.output / arguments.size, size, int(seed)) for seed in arguments.seeds.split(",")]
    dev = []
    for seed in seeds:
        seed.prepare()
        for method in listed:
            for rate in method.learning_rates:
                seed.train(method, rate)
        candidates = {
            method.folder(rate): seed.model(method, rate) for method in listed for rate in method.learning_rates
        }
        dev.append(seed.evaluate("dev", candidates))
    rates = [best_learning_rate(method, dev) for method in listed]
    chosen = {method.folder(rate): (method, rate) for method, rate in zip(listed, rates)}
    test = [seed.evaluate("test", {name: seed.model(*each) for name, each in chosen.items()}) for seed in seeds]

    rows = [make_row("base", test, ["base"] * len(seeds), size.lengths)]
    tokens = {key: fmean(seed.tokens_of_a_pair()[key] for seed in seeds) for key in seeds[0].tokens_of_a_pair()}
    for name, (method, rate) in chosen.items():
        separate, packed = tokens_per_pair(method, tokens)
        rows.append(
            make_row(method.name, test, [name] * len(seeds), size.lengths)
            | {
                "learning_rate": rate,
                "tokens": separate,
                "packed_tokens": packed,
                "seconds": fmean(seed.seconds_per_step(method, rate) for seed in seeds),
            }
        )
    return {
        "command": " ".join(["python -m benchmarks.miniature", *sys.argv[1:]]),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "llamafactory")},
        "size": arguments.size,
        "seeds": arguments.seeds,
        "objectives": objectives,
        "lengths": list(size.lengths),
        "long_tokens": size.long_tokens,
        "rows": rows,
    }


def make_shipped_base(folder: Path, scratch: Path) -> None:
    """A base in half precision, small enough for a repository."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_base(scratch / "base")
    model = AutoModelForCausalLM.from_pretrained(scratch / "base" / "model", dtype=torch.float16)
    model.config.use_cache = True  # training has switched it off
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(scratch / "base" / "model").save_pretrained(folder)
    print(f"Wrote a base model to {folder}.")


if __name__ == "__main__":
    main()
