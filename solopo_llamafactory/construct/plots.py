"""The plots of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, ScalarFormatter, StrMethodFormatter

from ..common.pages.svg import BLUE, GREY, INK, ORANGE, SETTINGS, to_svg


BINS = 30


@dataclass(frozen=True)
class Plot:
    """A picture, its title, and what to look for in it."""

    title: str
    look_for: str
    svg: str


def draw_plots(
    columns: Mapping[str, Sequence[float]],
    budgets: Mapping[str, Sequence[int]],
    depths: Mapping[str, Sequence[float]],
    depth_noise: float,
    hops: Mapping[str, Mapping[str, float]],
) -> list[Plot]:
    """Draws the training pairs.

    Args:
        columns: one value a pair, by name (`short_tokens`, ...).
        budgets: the token budgets of `short` and `long` prompts.
        depths: the share of the evidence in each tenth of the context, by view.
        depth_noise: how far chance alone moves such a share.
        hops: by number of hops, `questions` and the shares `right_samples` and `usable_questions`.
    """
    with rc_context(SETTINGS):
        return [
            Plot(
                "Prompt lengths",
                "Prompts should end just below their budget (dotted). Those in a tail to the left found no document that fits.",
                to_svg("prompts", _prompts(columns, budgets)),
            ),
            Plot(
                "Evidence depth",
                "Both lines should follow the even level, within the grey band of chance: the place of a document must "
                "not tell whether it matters.",
                to_svg("depth", _depth(depths, depth_noise)),
            ),
            Plot(
                "Right answers by hops",
                "A pair needs a right and a wrong sample of the same question: rates near 0% or 100% leave few.",
                to_svg("right", _right(hops)),
            ),
            Plot(
                "Short prompt / long prompt",
                "Rho, the token ratio of a pair's two prompts. The smaller it is, the more training on the short one "
                "saves.",
                to_svg("rho", _rho(columns["rho"])),
            ),
            Plot(
                "Answer lengths",
                "The two should be alike; a pile at the right end would be answers near max_new_tokens.",
                to_svg("answers", _answers(columns)),
            ),
            Plot(
                "Chosen minus rejected",
                "Should be centred on 0. A shift to one side teaches length instead of correctness.",
                to_svg("difference", _difference(columns)),
            ),
        ]


def _prompts(columns: Mapping[str, Sequence[float]], budgets: Mapping[str, Sequence[int]]) -> Figure:
    figure = Figure(figsize=(4.4, 4), layout="constrained")
    for axes, view, color in zip(figure.subplots(2, 1), ("short", "long"), (BLUE, ORANGE)):
        values = columns[f"{view}_tokens"]
        axes.hist(values, _whole_bins(values), color=color)
        for budget in filter(None, budgets[view]):
            axes.axvline(budget, color=INK, linestyle=":")
        _finish(axes, f"tokens of the {view} prompt", "pairs")
    return figure


def _depth(depths: Mapping[str, Sequence[float]], noise: float) -> Figure:
    figure, axes = _figure()
    even = 1 / len(depths["long"])
    edges = np.linspace(0, 1, len(depths["long"]) + 1)
    axes.axhspan(max(0, even - noise) * 100, (even + noise) * 100, color=GREY, alpha=0.25, linewidth=0, label="chance")
    axes.axhline(even * 100, color=INK, linestyle=":", label="even")
    for view, color, style in (("short", BLUE, "-"), ("long", ORANGE, "--")):
        axes.stairs(
            np.array(depths[view]) * 100, edges, color=color, linestyle=style, linewidth=2.5, label=view, baseline=None
        )
    _finish(axes, "place in the context (0 = start, 1 = end)", "evidence documents (%)")
    top = max(2 * even, even + 1.2 * noise, *(1.2 * max(shares) for shares in depths.values()))
    axes.set(xlim=(0, 1), ylim=(0, 100 * min(1, top)))
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(ncols=4, loc="upper center", fontsize=9, columnspacing=1, handlelength=1.6)
    return figure


def _right(hops: Mapping[str, Mapping[str, float]]) -> Figure:
    figure, axes = _figure()
    places = np.arange(len(hops))
    series = (("right_samples", "right samples", BLUE), ("usable_questions", "questions with both", ORANGE))
    for offset, (key, label, color) in zip((-0.2, 0.2), series):
        shares = [100 * group[key] for group in hops.values()]
        bars = axes.bar(places + offset, shares, 0.36, color=color, label=label)
        axes.bar_label(bars, fmt="{:.0f}%", fontsize=10)
    names = [f"{name} hop{'' if name == '1' else 's'}\n{group['questions']:,} q." for name, group in hops.items()]
    axes.set_xticks(places, names)
    axes.set(xlim=(-0.6, len(hops) - 0.4), ylim=(0, 119), yticks=range(0, 101, 25))
    axes.set_xlabel("hops and sampled questions")
    axes.set_ylabel("share (%)")
    axes.legend(ncols=2, loc="upper center", fontsize=9)
    return figure


def _rho(values: Sequence[float]) -> Figure:
    figure, axes = _figure()
    low, high = min(values), max(values)
    axes.hist(values, np.linspace(low, high, BINS + 1) if low < high else [low - 0.005, low + 0.005], color=BLUE)
    axes.axvline(np.median(values), color=INK, linestyle=":", label=f"median {np.median(values):.3f}")
    _finish(axes, "rho (short tokens / long tokens)", "pairs")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.legend()
    return figure


def _answers(columns: Mapping[str, Sequence[float]]) -> Figure:
    figure, axes = _figure()
    chosen, rejected = columns["chosen_tokens"], columns["rejected_tokens"]
    edges = _whole_bins([*chosen, *rejected])
    for values, color, style, label in ((chosen, BLUE, "-", "chosen"), (rejected, ORANGE, "--", "rejected")):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=color, linestyle=style, linewidth=2.5, label=label)
    _finish(axes, "tokens of the answer", "pairs")
    axes.legend()
    return figure


def _difference(columns: Mapping[str, Sequence[float]]) -> Figure:
    figure, axes = _figure()
    values = np.subtract(columns["chosen_tokens"], columns["rejected_tokens"])
    axes.hist(values, _whole_bins(values), color=BLUE)
    axes.axvline(0, color=INK, linestyle=":")
    _finish(axes, "chosen tokens - rejected tokens", "pairs")
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 3.2), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, few round ticks, and room for a legend."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.margins(y=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _whole_bins(values: Sequence[float]) -> np.ndarray:
    """At most BINS bins that hold equally many whole numbers, so that none stands out for its width."""
    low, span = min(values), max(values) - min(values) + 1
    width = int(np.ceil(span / BINS))
    return low - 0.5 + width * np.arange(int(np.ceil(span / width)) + 1)
