"""The pictures of an evaluation: curves over length, and heat maps of length and depth. The same for page and PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from ..common.errors import SolopoError
from ..common.files import atomic_path
from ..common.pages.svg import BLUE, GREY, INK, ORANGE, SETTINGS, to_svg
from .statistics import BEYOND


# The baseline has the colour of the text. After these eight, colours come again, dashed.
COLORS = (INK, BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", GREY)
MARKERS = "osD^vPXp<>"
MOST_BANDS = 3  # more of them would cover each other
COLUMNS = 3  # heat maps in a row
DIVERGING = LinearSegmentedColormap.from_list("points", (ORANGE, "#f2f2f2", BLUE))
PERCENT = Normalize(0, 100)


def draw_curves(results: dict) -> str:
    """Accuracy over length as SVG."""
    with rc_context(SETTINGS):
        return to_svg("curves", _curves(results))


def draw_scores(results: dict) -> tuple[str, dict[str, str]]:
    """The legend and each model's heat map as SVG."""
    with rc_context(SETTINGS):
        scale = "viridis", PERCENT, "right answers (%)"
        legend = to_svg("scores", _legend(*scale, _states(results)))
        maps = {}
        for number, (name, model) in enumerate(results["models"].items()):
            figure = _figure(results)
            _heat_map(figure.subplots(), results, model["cells"], model["cells"], *scale[:2])
            maps[name] = to_svg(f"score{number}", figure)
        return legend, maps


def draw_differences(results: dict) -> tuple[str, dict[str, str]]:
    """The legend and the heat map of each model but the baseline as SVG."""
    models = results["models"]
    others = {name: model for name, model in models.items() if "difference" in model}
    points = [cell["score"] or 0 for model in others.values() for cell in model["difference"]["cells"]]
    end = max(10, 10 * np.ceil(max(map(abs, points), default=0) / 10))
    scale = DIVERGING, Normalize(-end, end), f"points above or below {results['baseline']}"
    with rc_context(SETTINGS):
        legend = to_svg("differences", _legend(*scale, _states(results)))
        maps = {}
        for number, (name, model) in enumerate(others.items()):
            figure = _figure(results)
            # Without the baseline's answer there is no difference either.
            states = [max(pair, key=_rank) for pair in zip(model["cells"], models[results["baseline"]]["cells"])]
            _heat_map(figure.subplots(), results, model["difference"]["cells"], states, *scale[:2], "+.0f")
            maps[name] = to_svg(f"difference{number}", figure)
        return legend, maps


def save_pictures(results: dict, folder: Path) -> None:
    """Write `curves.png` and `heatmaps.png`."""
    with rc_context(SETTINGS | {"savefig.facecolor": "white"}):
        _save(_curves(results), folder / "curves.png")
        _save(_heat_maps(results), folder / "heatmaps.png")


def length_labels(lengths: Sequence[int]) -> list[str]:
    """`4K` for 4000 or 4096, or all lengths in full where that would not tell them apart."""
    labels = []
    for length in lengths:
        unit = next((unit for unit in (1000, 1024) if length % unit == 0), None)
        labels.append(f"{length // unit}K" if unit else f"{length:,}")
    return labels if len(set(labels)) == len(labels) else [f"{length:,}" for length in lengths]


def _curves(results: dict) -> Figure:
    models, lengths = results["models"], results["lengths"]
    columns = 2 if max(map(len, models)) <= 20 else 1
    figure = Figure(figsize=(4.6, 3.2 + 0.24 * (-(-len(models) // columns))), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    handles = []
    ends = False
    for number, (name, model) in enumerate(models.items()):
        groups = [model["by_length"][str(length)] for length in lengths]
        score, low, high = (
            np.array([group[key] if group else np.nan for group in groups], float) for key in ("score", "low", "high")
        )
        color = COLORS[number % len(COLORS)]
        style = {
            "color": color,
            "linestyle": "--" if number >= len(COLORS) else "-",
            "marker": MARKERS[number % len(MARKERS)],
            "label": name if len(name) <= 45 else f"{name[:44]}…",
        }
        if len(models) <= MOST_BANDS and len(lengths) > 1:
            axes.fill_between(lengths, low, high, color=color, alpha=0.18, linewidth=0)
            handles += axes.plot(lengths, score, linewidth=2, markersize=5, **style)
            places = np.array(lengths, float)
        else:  # bars side by side
            places = np.array(lengths) * 1.012 ** (number - (len(models) - 1) / 2)
            bars = np.array([score - low, high - score])
            drawn = axes.errorbar(places, score, bars.clip(0), linewidth=1.6, elinewidth=0.9, markersize=4.5, **style)
            handles.append(drawn)
        scored = np.flatnonzero(np.isfinite(score))
        if len(scored) and _ends_there(model, lengths, scored[-1]):
            ends = True
            axes.plot(places[scored[-1]], score[scored[-1]], "x", color=color, markersize=13, markeredgewidth=2.2)
    if ends:
        handles += axes.plot([], [], "x", color=GREY, markersize=10, markeredgewidth=2.2, label="the window ends here")
    axes.set(ylim=(-3, 103), yticks=range(0, 101, 20), ylabel="right answers (%)", xlabel="context length (tokens)")
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)
    axes.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.set_xticks(lengths, length_labels(lengths), **_slanted(lengths))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=10, columnspacing=1.2)
    return figure


def _ends_there(model: dict, lengths: Sequence[int], last: int) -> bool:
    """Whether the length after the last scored one is beyond the model's window."""
    later = lengths[last + 1 : last + 2]
    return any(cell["state"] == BEYOND for cell in model["cells"] if cell["length"] in later)


def _slanted(lengths: Sequence[int]) -> dict:
    """Settings of labels, slanted where upright ones would touch."""
    gaps = np.diff(np.log(lengths))
    narrow = len(gaps) and gaps.min() < 0.1 * (gaps.sum() + 0.3)
    return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if narrow else {}


def _heat_maps(results: dict) -> Figure:
    models = results["models"]
    columns = min(COLUMNS, len(models))
    rows = -(-len(models) // columns)
    width, height = _size(results)
    figure = Figure(figsize=(columns * width + 0.9, rows * (height + 0.3) + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, model) in zip(panels.flat, models.items()):
        _heat_map(axes, results, model["cells"], model["cells"], "viridis", PERCENT)
        axes.set_title("\n".join(textwrap.wrap(name, 38)), fontsize=11)
    for axes in panels.flat[len(models) :]:
        axes.set_axis_off()
    figure.colorbar(ScalarMappable(PERCENT, "viridis"), ax=panels, label="right answers (%)", fraction=0.03, pad=0.01)
    if handles := _handles(_states(results)):
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _figure(results: dict) -> Figure:
    return Figure(figsize=_size(results), layout="constrained")


def _size(results: dict) -> tuple[float, float]:
    """Inches of a heat map, so that every number fits its cell."""
    return max(3.2, 0.9 + 0.42 * len(results["lengths"])), max(1.5, 0.8 + 0.38 * len(results["depths"]))


def _heat_map(
    axes: Axes,
    results: dict,
    cells: Sequence[Mapping],
    states: Sequence[Mapping],
    cmap: str | LinearSegmentedColormap,
    norm: Normalize,
    number_format: str = ".0f",
) -> None:
    """One panel: lengths from left to right, depths from the context's start down to its end."""
    lengths, depths = results["lengths"], results["depths"]
    mappable = ScalarMappable(norm, cmap)
    for cell, state in zip(cells, states):
        x, y = lengths.index(cell["length"]), depths.index(cell["depth"])
        if state["state"] == BEYOND:
            axes.add_patch(_hatched((x - 0.5, y - 0.5), 1, 1))
        elif cell["score"] is not None:
            color = mappable.to_rgba(cell["score"])
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, linewidth=0))
            text = format(cell["score"], number_format)
            ink = "black" if np.dot(color[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
            axes.text(x, y, "0" if float(text) == 0 else text, ha="center", va="center", color=ink, fontsize=10)
    axes.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(depths) - 0.5, -0.5))
    axes.set_xticks(range(len(lengths)), length_labels(lengths), fontsize=10)
    axes.set_yticks(range(len(depths)), [f"{100 * depth:.3g}%" for depth in depths], fontsize=10)
    if max(map(len, length_labels(lengths))) > 4 and len(lengths) > 6:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set(xlabel="context length (tokens)", ylabel="depth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.7)


def _hatched(corner: tuple[float, float], width: float, height: float) -> Rectangle:
    return Rectangle(corner, width, height, facecolor="none", edgecolor=GREY, hatch="////", linewidth=0)


def _rank(cell: Mapping) -> int:
    return ("scored", "not asked", BEYOND).index(cell["state"])


def _states(results: dict) -> set[str]:
    return {cell["state"] for model in results["models"].values() for cell in model["cells"]}


def _handles(states: set[str]) -> list[Rectangle]:
    handles = []
    if BEYOND in states:
        handles.append(Patch(facecolor="none", edgecolor=GREY, hatch="////", linewidth=0.7, label=BEYOND))
    if "not asked" in states:
        handles.append(Patch(facecolor="none", edgecolor=GREY, linewidth=0.7, label="no answers yet"))
    return handles


def _legend(cmap: str | LinearSegmentedColormap, norm: Normalize, label: str, states: set[str]) -> Figure:
    """The colours of all heat maps of a kind, on a strip."""
    handles = _handles(states)
    figure = Figure(figsize=(4.4, 1.0 if handles else 0.7), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(ScalarMappable(norm, cmap), cax=axes, orientation="horizontal", label=label)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _save(figure: Figure, path: Path) -> None:
    try:
        with atomic_path(path) as unfinished:
            figure.savefig(unfinished, dpi=150)
    except OSError as error:
        raise SolopoError(f"'{path}' cannot be written ({error}): make room; the same command continues.") from None
