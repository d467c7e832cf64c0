"""`python -m experiments.small_lm.probe`: one training that asks held-out pairs as it goes (`solopo_probe`), and its curves.

Losses and rewards are logged beside the right answers, so that a picture shows what the losses hide.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence

from llamafactory.train.tuner import run_exp

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import atomic_writer, read_json

from .__main__ import add_arguments, workspace_of
from .runs import HELD_OUT_PAIRS, Workspace
from .units import KINDS, LOSSES, unit_of


PICTURE = "training_solopo.png"
EVALUATIONS = 10
PROBED = {"gpu": 32, "tiny": 2}  # held-out pairs, of each size


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.small_lm.probe", description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--loss", choices=list(LOSSES), default="ORPO")
    parser.add_argument("--kind", choices=list(KINDS), default="SoLo")
    parser.add_argument("--rate", type=float, help="learning rate; the loss's first one by default")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The pairs where they are missing, the training, and its curves."""
    arguments = parse(argv)
    workspace = Workspace(**workspace_of(arguments))
    folder, size = workspace.folder, workspace.size
    unit = unit_of(arguments.loss, arguments.kind, arguments.rate)
    try:
        workspace.prepare()
        workspace.need_pairs()
        workspace.need_held_out(PROBED[arguments.size])
    except SolopoError as error:
        print(f"small_lm: {error}", file=sys.stderr)
        return 1
    kept = folder / "probe" / unit.name
    output = folder / "models" / f"probe_{unit.name}"
    steps = max(1, size.steps // EVALUATIONS)
    run_exp(
        workspace.training(unit, output)
        | {
            "tokenized_path": None,  # which is without held-out pairs
            "eval_dataset": HELD_OUT_PAIRS,
            "eval_strategy": "steps",
            "eval_steps": steps,
            "per_device_eval_batch_size": size.batch_size,
            "solopo_probe": PROBED[arguments.size],
            "logging_steps": 1,
            "plot_loss": True,
        }
    )
    kept.mkdir(parents=True, exist_ok=True)
    logs = read_json(output / "trainer_state.json", "train")["log_history"]
    with atomic_writer(kept / "log_history.jsonl") as file:
        file.writelines(json.dumps(log) + "\n" for log in [workspace.where() | {"unit": unit.name}, *logs])
    shutil.copy(output / PICTURE, kept / PICTURE)
    shutil.rmtree(output)
    print(f"The curves of {unit.name} are in {kept}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
