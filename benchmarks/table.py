"""`python -m benchmarks.table RESULTS.jsonl`: a Markdown table and pictures beside the results file."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from solopo_llamafactory.common.files import atomic_writer
from solopo_llamafactory.common.markdown import table
from solopo_llamafactory.data.cost import ModelShape, packed_row_load, padded_long_load
from solopo_llamafactory.data.sequences import sequences_of

from .cells import METHODS, Cell
from .plots import draw_plots
from .results_file import groups_of, latest_rows, time_ratio
from .workload import config_of, lengths_of


COLUMNS = (
    "length",
    "method",
    "variant",
    "s/step",
    "time / host",
    "time / long view",
    "step GiB",
    "peak GiB",
    "used GiB",
    "tokens/step",
    "model TFLOP",
    "of ceiling",
)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.table RESULTS.jsonl")
    print(write_report(Path(sys.argv[1])))


def write_report(results: Path) -> str:
    """Write RESULTS.md and the pictures, and return the Markdown text."""
    rows = latest_rows(results)
    pictures = draw_plots(rows, results)
    text = markdown(rows)
    for picture in pictures:
        text += f"\n![{picture.stem}]({picture.name})\n"
    with atomic_writer(results.with_suffix(".md")) as file:
        file.write(text)
    return text


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each group of cells that differ in method, variant and length only."""
    ceilings = ceilings_of(rows)
    parts = [f"Measured ceiling, {machine}: {tflops:.4g} TFLOP/s a device.\n" for machine, tflops in ceilings.items()]
    for title, members in groups_of(rows).items():
        order = list(METHODS)
        ordered = sorted(members, key=lambda row: (row["length"], order.index(row["method"])))
        cells = (table_row(row, members, ceilings) for row in ordered)
        parts.append(f"### {title}\n\n{table(COLUMNS, cells)}\n")
    return "\n".join(parts)


def ceilings_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Machine -> TFLOP/s of its plain matrix product."""
    return {row["machine"]: row["tflops"] for row in rows if row["method"] == "ceiling" and row["status"] == "ok"}


def table_row(row: dict[str, Any], members: list[dict[str, Any]], ceilings: dict[str, float]) -> list[str]:
    """The cells of one line, one for each of `COLUMNS`."""
    label = [str(row["length"]), METHODS[row["method"]], row["variant"]]
    if row["status"] != "ok":
        reason = "out of memory" if row["status"] == "oom" else row["status"]
        return [*label, reason, *["-"] * (len(COLUMNS) - 4)]
    cell = Cell.of(row)
    flops, ceiling = model_flops(cell), ceilings.get(row["machine"])
    speed = flops / row["median_seconds"] / cell.gpus / 1e12
    return [
        *label,
        f"{row['median_seconds']:.3g}",
        number(time_ratio(row, members, "host"), ".2f"),
        number(time_ratio(row, members, "long"), ".2f"),
        *(number(row[name], ".1f") for name in ("step_memory_gib", "peak_allocated_gib", "used_gib")),
        f"{tokens_per_step(cell):.0f}",
        f"{flops / 1e12:.4g}",
        number(None if ceiling is None else speed / ceiling, ".0%"),
    ]


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def load(cell: Cell) -> np.ndarray:
    """(tokens, attention pairs, positions with logits) of one optimizer step on all processes, on average.

    Those that the method computes, padding and all, but nothing a second time for a recomputed activation.
    """
    lengths = lengths_of(cell)
    if cell.method in ("host", "trl"):
        loads = padded_long_load(lengths)
    else:
        loads = packed_row_load(lengths, sequences_of("long" if cell.method == "long" else "both"))
    counted = loads[:, cell.warmup * cell.accumulation * cell.gpus :]
    return counted.mean(-1) * cell.accumulation * cell.gpus


def tokens_per_step(cell: Cell) -> float:
    """Tokens of one optimizer step on all processes, padding included."""
    return load(cell)[0]


def model_flops(cell: Cell) -> float:
    """Floating-point operations of one optimizer step on all processes.

    A multiply-add is two; the backward pass costs twice the forward pass, or once where the weights are frozen
    (attention has no weights: always twice). A reference model that runs in the step adds a forward pass.
    """
    tokens, pairs, logit_tokens = load(cell)
    linear = (2 if cell.finetuning == "lora" else 3) + cell.has_live_reference
    attention = 3 + cell.has_live_reference
    shape = ModelShape.of(config_of(cell))
    return 2 * shape.cost(linear * tokens, attention * pairs, linear * logit_tokens)


if __name__ == "__main__":
    main()
