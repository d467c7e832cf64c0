"""`python -m experiments.two_hop`: the paper's comparison on a model of 0.4 M parameters. Can be stopped and run again."""

import argparse
import platform
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import torch

from .base import make_base
from .methods import OBJECTIVES, Method, methods
from .pool import Pool
from .results_file import best_learning_rate, make_row, markdown, tokens_per_pair, write
from .runs import Seed
from .sizes import SIZES


def main() -> None:
    """Makes the base alone, or all of the comparison."""
    parser = argparse.ArgumentParser(prog="python -m experiments.two_hop", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--objectives", default="SimPO,ORPO,DPO", help="which ones, of SimPO, ORPO and DPO")
    parser.add_argument("--variants", action="store_true", help="also SoLoPO with other gradients and alphas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workers", default=1, type=int, help="runs side by side; a GPU has room for several")
    parser.add_argument("--output", default="saves/miniature", type=Path)
    parser.add_argument("--base-only", metavar="FOLDER", type=Path, help="make a base model for data/two_hop and stop")
    arguments = parser.parse_args()
    if arguments.base_only:
        make_shipped_base(arguments.base_only, arguments.output)
        return
    if arguments.workers < 1:
        parser.error(f"--workers is {arguments.workers}: write 1 or more")
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
    folder = arguments.output / arguments.size
    listed = methods(objectives, arguments.variants)
    seeds = [Seed(folder, size, int(seed)) for seed in arguments.seeds.split(",")]
    candidates = [(method, rate) for method in listed for rate in method.learning_rates]
    with Pool(arguments.workers, folder) as pool:
        pool.run("bases and pairs", [seed.prepare for seed in seeds])
        pool.run("training", [partial(seed.train, *each) for each in candidates for seed in seeds])
        dev = evaluate(pool, "dev", seeds, candidates)
        chosen = [(method, best_learning_rate(method, dev)) for method in listed]
        test = evaluate(pool, "test", seeds, chosen)
        seconds = pool.run("timing", [partial(seeds[0].time, *each) for each in chosen], alone=True)

    rows = [make_row("base", test, "base", size.lengths)]
    tokens = {key: fmean(seed.tokens_of_a_pair()[key] for seed in seeds) for key in seeds[0].tokens_of_a_pair()}
    for (method, rate), median_seconds in zip(chosen, seconds):
        separate, packed = tokens_per_pair(method, tokens)
        rows.append(
            make_row(method.name, test, method.folder(rate), size.lengths)
            | {
                "learning_rate": rate,
                "tokens": separate,
                "packed_tokens": packed,
                "seconds": median_seconds,
            }
        )
    return {
        "command": " ".join(["python -m experiments.two_hop", *sys.argv[1:]]),
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


def evaluate(pool: Pool, part: str, seeds: list[Seed], trained: list[tuple[Method, float]]) -> list[dict]:
    """results.json of each seed's base and trained models."""
    pool.run(f"{part} contexts", [partial(seed.make_contexts, part) for seed in seeds])
    models = [
        {"base": seed.base} | {method.folder(rate): seed.model(method, rate) for method, rate in trained}
        for seed in seeds
    ]
    tasks = [partial(seed.ask, part, *each) for seed, named in zip(seeds, models) for each in named.items()]
    pool.run(f"{part} answers", tasks)
    return pool.run(f"{part} scores", [partial(seed.evaluate, part, named) for seed, named in zip(seeds, models)])


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
