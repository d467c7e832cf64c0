"""`python -m experiments.small_lm`: short, long and SoLo on SmolLM2-135M-Instruct. Can be stopped and run again."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import atomic_writer

from . import results_file
from .table import markdown
from .units import BASE, KINDS, LOSSES, SIZES, Unit, plan
from .workers import Task, Workers


FIRST_GUESS = 150  # seconds of a unit, before one of its kind is finished
SLACK = 1.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, how large, and where it is kept."""
    parser.add_argument("--questions", default="data/xquad.en.json", help="XQuAD's file (CC BY-SA 4.0), in English")
    parser.add_argument("--model", default="pypi", help="pypi, the GGUF file of its wheel, or a folder or hub id")
    parser.add_argument("--template", default="smollm2", help="LLaMA-Factory's name of the model's chat template")
    parser.add_argument("--size", choices=list(SIZES), default="gpu")
    parser.add_argument("--output", default="saves/small_lm", type=Path)


def workspace_of(arguments: argparse.Namespace) -> dict:
    """What `runs.Workspace` is made of."""
    workspace = {"folder": arguments.output / arguments.size, "size": SIZES[arguments.size]}
    return workspace | {key: getattr(arguments, key) for key in ("questions", "model", "template")}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.small_lm", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--losses", default="ORPO,SimPO", help=f"some of {', '.join(LOSSES)}")
    parser.add_argument("--kinds", default="SoLo,long,short", help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rates", type=int, help="how many learning rates of each loss; all by default")
    parser.add_argument(
        "--chosen", action="store_true", help="further seeds only at the rate that the first one chose"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no unit that would end after that")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    arguments = parser.parse_args(argv)
    for name, known in (("losses", LOSSES), ("kinds", KINDS)):
        values = getattr(arguments, name).split(",")
        for value in values:
            if value not in known:
                parser.error(f"'{value}' is none of the {name} here: write some of {', '.join(known)}")
        setattr(arguments, name, values)
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Everything that is not there yet, then the table."""
    arguments = parse(argv)
    folder = arguments.output / arguments.size
    failed = []
    try:
        if not arguments.table:
            failed = measure(arguments, folder)
        text = markdown(results_file.read(folder))
        with atomic_writer(folder / "table.md") as file:
            file.write(text)
    except SolopoError as error:
        print(f"small_lm: {error}", file=sys.stderr)
        return 1
    print(text)
    if failed:
        print(f"Not measured yet: {', '.join(task.name or task.method for task in failed)}.", file=sys.stderr)
    return 0


def measure(arguments: argparse.Namespace, folder: Path) -> list[Task]:
    """Runs what is missing; returns what is missing still."""
    started = time.monotonic()
    workspace = workspace_of(arguments)
    rows = results_file.read(folder)
    clock = Clock(started, arguments.seconds, results_file.units_of(rows))
    units = plan(arguments.losses, arguments.kinds, arguments.seeds, arguments.rates)
    if arguments.chosen:
        units = at_chosen_rates(units, rows, arguments.seeds[0])
    units = [unit for unit in units if unit.name not in clock.finished]

    def done(task: Task, result: dict | None) -> None:
        if task.method == "where":
            results_file.check_size(folder, SIZES[arguments.size], result | {"command": command(arguments)})
        elif result is not None:
            results_file.append(folder, result)
            if task.method == "run":
                clock.finished[result["unit"]] = result
            clock.say(result)

    with Workers(visible_gpus(), workspace, folder) as workers:

        def need(*tasks: Task) -> None:
            if missing := workers.run(tasks, done):
                names = ", ".join(task.name or task.method for task in missing)
                raise SolopoError(f"{names} failed: see above, and the workers' logs in '{folder}'.")

        need(Task("where"))
        need(Task("prepare"))
        base = [unit_task(unit) for unit in units if unit.method == BASE] or [Task("make_grids")]
        seeds = (seed for seed in arguments.seeds if not (folder / f"seed_{seed}" / "dataset_info.json").is_file())
        need(*(Task("build", (seed,), f"pairs of seed {seed}") for seed in seeds), *base)
        return workers.run([unit_task(unit) for unit in units if unit.method != BASE], done, clock.fits)


def at_chosen_rates(units: list[Unit], rows: list[dict], first: int) -> list[Unit]:
    """The units of the first seed, and of the others those at the rate that is best of the first seed's finished ones."""
    best = {unit.method: results_file.chosen(rows, unit.method, first) for unit in units}
    rates = {method: row["rate"] for method, row in best.items() if row is not None}
    return [unit for unit in units if unit.seed == first or rates.get(unit.method) == unit.rate]


def unit_task(unit: Unit) -> Task:
    return Task("run", (unit,), unit.name)


class Clock:
    """How long units take, and whether there is time for one more."""

    def __init__(self, started: float, seconds: float, finished: dict[str, dict]) -> None:
        self.started, self.seconds, self.finished = started, seconds, finished

    def fits(self, task: Task) -> bool:
        if task.method != "run" or self.seconds == float("inf"):
            return True
        view = task.arguments[0].view
        known = [row["seconds"] for row in self.finished.values() if row["view"] == view and "test" in row]
        return time.monotonic() - self.started + SLACK * max(known[-2:], default=FIRST_GUESS) < self.seconds

    def say(self, row: dict) -> None:
        shown = {key: row[key] for key in ("unit", "seconds", "pairs", "part") if key in row}
        if "unit" in row:
            shown["dev"] = {
                length: round(results_file.percent(row, "dev", length), 1) for length in row["dev"]["right"]
            }
            shown["cut_off"] = row["dev"]["cut_off"]
        print(
            f"[{time.monotonic() - self.started:.0f} s]",
            *(f"{key} {value}" for key, value in shown.items()),
            flush=True,
        )


def visible_gpus() -> list[str]:
    from ..two_hop.pool import visible_gpus as visible

    return visible()


def command(arguments: argparse.Namespace) -> str:
    """The command without paths of this machine."""
    words = [
        f"--size {arguments.size}",
        f"--losses {','.join(arguments.losses)}",
        f"--kinds {','.join(arguments.kinds)}",
    ]
    return " ".join(["python -m experiments.small_lm", *words, f"--seeds {','.join(map(str, arguments.seeds))}"])


if __name__ == "__main__":
    sys.exit(main())
