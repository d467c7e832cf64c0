"""Pictures of a results file: time against the host, memory, and the longest length that fits."""

from pathlib import Path
from typing import Any

from .results import groups_of, time_ratio


MARKERS = {"host": "s", "long": "^", "solopo": "o"}


def draw_plots(rows: list[dict[str, Any]], results: Path) -> list[Path]:
    """Draw what the rows have figures for, beside the results file, and return the pictures' paths."""
    groups = groups_of(rows)
    pictures = {"time": draw_time(groups), "memory": draw_memory(groups), "longest": draw_longest(groups)}
    paths = []
    for name, figure in pictures.items():
        if figure is not None:
            paths.append(results.with_name(f"{results.stem}_{name}.png"))
            figure.savefig(paths[-1], format="png", dpi=90)
    return paths


def draw_time(groups: dict[str, list[dict[str, Any]]]):
    """Seconds of a step over the host's, over length; None without a ratio."""
    panels = {}
    for title, rows in groups.items():
        others = [row for row in rows if row["method"] != "host" and row["status"] == "ok"]
        panels[title] = lines_of(others, lambda row: time_ratio(row, rows, "host"))
    figure = draw_lines(panels, "time of a step / host's dpo stage, long")
    for axes in figure.axes if figure else []:
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_ylim(bottom=0)
    return figure


def draw_memory(groups: dict[str, list[dict[str, Any]]]):
    """Memory over length: what the step adds where that is known, else the peak; None without such a figure."""

    def memory(row: dict[str, Any]) -> float | None:
        return row["peak_allocated_gib"] if row["step_memory_gib"] is None else row["step_memory_gib"]

    panels = {
        title: lines_of([row for row in rows if row["status"] == "ok"], memory) for title, rows in groups.items()
    }
    return draw_lines(panels, "GiB on a GPU (forward backward: over weights and gradients)")


def lines_of(rows: list[dict[str, Any]], value) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(method, variant) -> the points (length, value), by length, of the rows that have a value."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["length"]):
        if (y := value(row)) is not None:
            lines.setdefault((row["method"], row["variant"]), []).append((row["length"], y))
    return lines


def draw_lines(panels: dict[str, dict], label: str):
    """One panel for each group that has lines; None where none has."""
    from matplotlib.figure import Figure

    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 4), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for (method, variant), points in lines.items():
            axes.plot(*zip(*points), marker=MARKERS[method], label=f"{method}, {variant}", linewidth=1.5)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("tokens of the long prompt with its answer")
        axes.set_xticks(sorted({length for points in lines.values() for length, _ in points}))
        axes.margins(x=0.2)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.supylabel(label, fontsize=9)
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
