"""`python -m experiments.small_lm.precision`: the development answers of one trained model in each precision.

Weights are trained in float32, and an update smaller than half a step of bfloat16 is gone when they are rounded to it: for
the answers, and under bf16 autocast for the training's own forward passes, which `--training fp16` does in float16.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from llamafactory.train.tuner import run_exp

from . import results_file
from .__main__ import add_arguments, workspace_of
from .runs import Workspace, forget
from .units import KINDS, LOSSES, unit_of


TRAINING = {"bf16": {"bf16": True, "fp16": False}, "fp16": {"bf16": False, "fp16": True}}
PRECISIONS = ("bfloat16", "float16", "float32")


def main(argv: Sequence[str] | None = None) -> int:
    """A training, its answers in each precision, and a row of each."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.small_lm.precision", description=__doc__.splitlines()[0]
    )
    add_arguments(parser)
    parser.add_argument("--loss", choices=list(LOSSES), default="ORPO")
    parser.add_argument("--kind", choices=list(KINDS), default="SoLo_one_sided")
    parser.add_argument("--rates", default="1e-5")
    parser.add_argument("--training", choices=list(TRAINING), default="bf16", help="LLaMA-Factory's argument for it")
    arguments = parser.parse_args(argv)
    workspace = Workspace(**workspace_of(arguments))
    workspace.prepare()
    workspace.make_grids()
    workspace.need_pairs()
    for rate in map(float, arguments.rates.split(",")):
        unit = unit_of(arguments.loss, arguments.kind, rate)
        output = workspace.folder / "models" / f"precision_{unit.name}"
        run_exp(workspace.training(unit, output) | (TRAINING[arguments.training] if torch.cuda.is_available() else {}))
        forget()
        for infer_dtype in PRECISIONS:
            dev = replace(workspace, infer_dtype=infer_dtype).evaluate("dev", f"{unit.name}_{infer_dtype}", output)
            row = {"precision": infer_dtype, "of": unit.name, "training": arguments.training, "dev": dev}
            results_file.append(workspace.folder, row)
            scores = {length: round(results_file.percent(row, "dev", length), 1) for length in dev["right"]}
            print(
                unit.name, arguments.training, infer_dtype, scores, dev["cut_off"], f"{dev['seconds']} s", flush=True
            )
            forget()
        shutil.rmtree(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
