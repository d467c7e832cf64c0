"""From the rows to tables: scores with the share of answers cut off, and paired differences."""

from collections.abc import Sequence

import numpy as np

from . import results_file
from .units import BASE


RESAMPLES = 10000
OTHERS = ("short", "long")  # what SoLo is compared with, beside the base


def markdown(rows: Sequence[dict]) -> str:
    """All tables of a results file; what has not been measured is left out."""
    units = results_file.units_of(rows)
    if BASE not in units:
        return "Nothing has been measured yet.\n"
    seeds = sorted({row["seed"] for row in units.values() if row["seed"] is not None})
    methods = list(dict.fromkeys(row["method"] for row in units.values()))
    best = {method: _best(rows, method, seeds) for method in methods}
    lengths = list(units[BASE]["test"]["right"])
    parts = [_rates(units), _precisions(rows), _scores(best, lengths)]
    pairs = [(method, BASE) for method in methods if method != BASE]
    for method in methods:
        kind, _, loss = method.partition("-")
        pairs += [(method, f"{other}-{loss}") for other in OTHERS if kind not in (*OTHERS, BASE)]
    grid = next(row for row in rows if row.get("part") == "test")
    parts.append(_differences(best, [(one, two) for one, two in pairs if two in best], lengths, grid["paragraphs"]))
    return "\n".join(filter(None, parts))


def _best(rows: Sequence[dict], method: str, seeds: Sequence[int]) -> list[dict]:
    """The chosen unit of each seed; the base's is the same for all."""
    found = (results_file.chosen(rows, method, seed) for seed in seeds or [0])
    return [row for row in found if row is not None]


def _rates(units: dict[str, dict]) -> str:
    lengths = list(units[BASE]["dev"]["right"])
    lines = [f"| | rate | seed | {' | '.join(f'dev {length}' for length in lengths)} | mean | cut off | s to train |"]
    for row in units.values():
        scores, cut_off = _dev_cells(row, lengths)
        rate, seed = (f"{row['rate']:g}", row["seed"]) if row["rate"] else ("", "")
        mean, seconds = f"{results_file.dev_score(row):.1f}", row.get("train_seconds", "")
        lines.append(f"| {row['method']} | {rate} | {seed} | {scores} | {mean} | {cut_off} | {seconds} |")
    return "Development questions, every learning rate. Right answers in %, cut off in %.\n\n" + _table(lines)


def _dev_cells(row: dict, lengths: Sequence[str]) -> tuple[str, str]:
    """Right answers by length, each a cell, and the shares of answers cut off in one cell, in percent."""
    scores = (f"{results_file.percent(row, 'dev', length):.1f}" for length in lengths)
    cut_off = (f"{100 * share:.0f}" for share in row["dev"]["cut_off"].values())
    return " | ".join(scores), " / ".join(cut_off)


def _precisions(rows: Sequence[dict]) -> str:
    rows = [row for row in rows if "precision" in row]
    if not rows:
        return ""
    lengths = list(rows[0]["dev"]["right"])
    lines = [f"| | trained in | asked in | {' | '.join(f'dev {length}' for length in lengths)} | cut off |"]
    for row in rows:
        scores, cut_off = _dev_cells(row, lengths)
        lines.append(f"| {row['of']} | {row['training']} | {row['precision']} | {scores} | {cut_off} |")
    return "The same trained weights in other precisions, development questions, in %.\n\n" + _table(lines)


def _scores(best: dict[str, list[dict]], lengths: Sequence[str]) -> str:
    lines = [f"| | rate | {' | '.join(f'{int(length):,}' for length in lengths)} | mean |"]
    for method, rows in best.items():
        cells, means = [], []
        for length in lengths:
            score = np.mean([results_file.percent(row, "test", length) for row in rows])
            cut_off = np.mean([row["test"]["cut_off"][length] for row in rows])
            means.append(score)
            cells.append(f"{score:.1f} ({100 * cut_off:.0f})")
        rates = ", ".join(dict.fromkeys(f"{row['rate']:g}" for row in rows if row["rate"]))
        lines.append(f"| {method} | {rates} | {' | '.join(cells)} | {np.mean(means):.1f} |")
    title = "Test questions, each method at the rate that was best on the development questions. Right answers in % (cut off in %)"
    return f"{title}, means over seeds.\n\n" + _table(lines)


def _differences(
    best: dict[str, list[dict]], pairs: Sequence[tuple[str, str]], lengths: Sequence[str], paragraphs: Sequence[int]
) -> str:
    if not pairs:
        return ""
    lines = [f"| | {' | '.join(f'{int(length):,}' for length in lengths)} | mean |"]
    for one, two in pairs:
        cells = []
        values = _values(best[one], lengths) - _values(best[two], lengths)
        for columns in (*np.split(values, len(lengths), axis=2), values):
            point, low, high = estimate(columns.mean(axis=2), paragraphs)
            cells.append(f"{point:+.1f} [{low:+.1f}, {high:+.1f}]")
        lines.append(f"| {one} - {two} | {' | '.join(cells)} |")
    return (
        "Test questions, paired differences in points with 95% intervals by bootstrap over paragraphs and seeds.\n\n"
        + _table(lines)
    )


def _values(rows: Sequence[dict], lengths: Sequence[str]) -> np.ndarray:
    """[seeds, questions, lengths], share of the depths that were answered right, in percent."""
    return np.array(
        [
            np.stack([results_file.outcomes(row, "test", length) for length in lengths], axis=1)
            * (100 / row["test"]["depths"])
            for row in rows
        ]
    )


def estimate(values: np.ndarray, paragraphs: Sequence[int]) -> tuple[float, float, float]:
    """The mean with its 95% interval: all questions of a paragraph go together, and so do those of a seed.

    Args:
        values: [seeds, questions].
        paragraphs: of each question.
    """
    _, index = np.unique(paragraphs, return_inverse=True)
    count = index.max() + 1
    sizes = np.bincount(index).astype(float)
    sums = np.stack([np.bincount(index, weights=row) for row in values])  # [seeds, paragraphs]
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=RESAMPLES)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    means = np.einsum("rs,sp,rp->r", seeds / len(values), sums, drawn) / (drawn @ sizes)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def _table(lines: list[str]) -> str:
    lines.insert(1, "|" + "---|" * (lines[0].count("|") - 1))
    return "\n".join(lines) + "\n"
