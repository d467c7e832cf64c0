"""Pictures of a results file: time against the host, memory, and the longest length that fits."""

from pathlib import Path
from typing import Any

from solopo_llamafactory.common.files import atomic_path

from .cells import METHODS
from .results_file import groups_of, time_ratio


COLORS = {"host": "tab:gray", "trl": "tab:green", "long": "tab:orange", "solopo": "tab:blue"}


def draw_plots(rows: list[dict[str, Any]], results: Path) -> list[Path]:
    """Draw what the rows have figures for, beside the results file, and return the pictures' paths."""
    groups = groups_of([row for row in rows if row["status"] == "ok"])
    pictures = {"time": draw_time(groups), "memory": draw_memory(groups), "longest": draw_longest(groups_of(rows))}
    paths = []
    for name, figure in pictures.items():
        if figure is not None:
            paths.append(results.with_name(f"{results.stem}_{name}.png"))
            with atomic_path(paths[-1]) as unfinished:
                figure.savefig(unfinished, dpi=90)
    return paths


def draw_time(groups: dict[str, list[dict[str, Any]]]):
    """Seconds of a step over the host's; None without a ratio."""
    figure = draw_bars(
        {
            title: [(row, ratio) for row in rows if (ratio := time_ratio(row, rows, "host")) is not None]
            for title, rows in groups.items()
        },
        "time of a step / host's dpo stage on the long pair",
        "{:.2f}",
    )
    if figure is not None:
        figure.axes[0].axvline(1, color="black", linewidth=0.8)
    return figure


def draw_memory(groups: dict[str, list[dict[str, Any]]]):
    """What a step adds over weights and gradients; None where no row knows."""
    return draw_bars(
        {
            title: [(row, row["step_memory_gib"]) for row in rows if row["step_memory_gib"] is not None]
            for title, rows in groups.items()
        },
        "GiB of a step over weights and gradients (by need fills free memory on purpose)",
        "{:.1f}",
    )


def draw_bars(groups: dict[str, list[tuple[dict[str, Any], float]]], label: str, form: str):
    """A bar for each row, under its group and length; None without rows."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    order = list(METHODS)
    blocks = {
        f"{title}, {length} tokens": sorted(
            [(row, value) for row, value in rows if row["length"] == length],
            key=lambda each: order.index(each[0]["method"]),
        )
        for title, rows in groups.items()
        for length in sorted({row["length"] for row, _ in rows})
    }
    blocks = {title: rows for title, rows in blocks.items() if any(row["method"] != "host" for row, _ in rows)}
    if not blocks:
        return None
    lines = sum(len(rows) + 1.6 for rows in blocks.values())
    figure = Figure(figsize=(9, 1 + 0.22 * lines), layout="constrained")
    axes = figure.subplots()
    y, ticks, names = 0.0, [], []
    for title, rows in blocks.items():
        axes.text(0, y, title, fontsize=8, fontweight="bold", va="center")
        for row, value in rows:
            y += 1
            axes.barh(y, value, color=COLORS[row["method"]], height=0.8)
            axes.text(value, y, " " + form.format(value), fontsize=7, va="center")
            ticks.append(y)
            names.append(row["variant"])
        y += 1.6
    axes.set_yticks(ticks, names, fontsize=7)
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_xlabel(label, fontsize=9)
    axes.margins(x=0.08)
    used = dict.fromkeys(row["method"] for rows in blocks.values() for row, _ in rows)
    handles = [Patch(color=COLORS[method], label=METHODS[method]) for method in used]
    figure.legend(handles=handles, fontsize=8, loc="outside upper center", ncols=len(handles))
    return figure


def draw_longest(groups: dict[str, list[dict[str, Any]]]):
    """Bars of the longest length that ran, of the suite `longest`; None without such rows."""
    from matplotlib.figure import Figure

    bars = []
    for title, rows in groups.items():
        for method, variant in dict.fromkeys((row["method"], row["variant"]) for row in rows):
            mine = [row for row in rows if (row["method"], row["variant"]) == (method, variant)]
            fit = [row["length"] for row in mine if row["status"] == "ok"]
            over = [row["length"] for row in mine if row["status"] == "oom"]
            if mine[0]["suite"] == "longest" and fit:
                end = f"{min(over)} ran out of memory" if over else "none longer was tried"
                bars.append((f"{method}, {variant}\n{title}", max(fit), f" {max(fit)} ({end})"))
    if not bars:
        return None
    figure = Figure(figsize=(10, 1 + 0.7 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names, longest, notes = zip(*bars)
    axes.bar_label(axes.barh(names, longest), notes, fontsize=8)
    axes.set_xlim(right=1.4 * max(longest))
    axes.set_xlabel("tokens of the long prompt with its answer")
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    return figure
