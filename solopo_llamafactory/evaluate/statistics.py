"""How good a model is and how sure that is: means with bootstrap intervals by length, depth and hops.

Arrays of scores are those of `judging`: [questions, lengths, depths], nan where there is no answer.
"""

from functools import lru_cache

import numpy as np

from .judging import Grid, Scores


RESAMPLES = 2000
BEYOND = "beyond the window"


def make_cells(grid: Grid, scores: Scores) -> list[dict]:
    """One object a cell, by length, then depth."""
    cells = []
    for i, length in enumerate(grid.lengths):
        for j, depth in enumerate(grid.depths):
            values = scores.right[:, i, j]
            n, right = int(np.isfinite(values).sum()), int(np.nansum(values))
            state = BEYOND if scores.beyond[i] else "scored" if n else "not asked"
            percent = round(100 * right / n, 4) if n else None
            cells.append({"length": length, "depth": depth, "n": n, "right": right, "score": percent, "state": state})
    return cells


def make_groups(values: np.ndarray, grid: Grid, common: np.ndarray, seed: int) -> dict:
    """The estimates by length, and over the common lengths by depth, by hops and of all."""
    shared = values[:, common]
    return {
        "by_length": {str(length): estimate(values[:, [i]], seed) for i, length in enumerate(grid.lengths)},
        "by_depth": {str(depth): estimate(shared[:, :, [j]], seed) for j, depth in enumerate(grid.depths)},
        "by_hops": {str(hops): estimate(shared[grid.hops == hops], seed) for hops in np.unique(grid.hops)},
        "all": estimate(shared, seed),
    }


def make_difference(values: np.ndarray, grid: Grid, common: np.ndarray, seed: int) -> dict:
    """The same groups of the differences, in points, where both models answered; and each cell's."""
    cells = []
    for i, length in enumerate(grid.lengths):
        for j, depth in enumerate(grid.depths):
            both = values[np.isfinite(values[:, i, j]), i, j]
            points = round(100 * float(both.mean()), 4) if len(both) else None
            cells.append({"length": length, "depth": depth, "n": len(both), "score": points})
    return {"cells": cells, **make_groups(values, grid, common, seed)}


def estimate(values: np.ndarray, seed: int) -> dict | None:
    """The mean in percent with its 95% interval, by bootstrap over questions: all of a question's answers go together.

    Args:
        values: [questions, ...], nan where there is no answer.

    Returns:
        `n` (answers), `score`, `low` and `high`, or None where there is no answer.
    """
    values = values.reshape(len(values), -1)
    counts = np.isfinite(values).sum(axis=1)
    answered = counts > 0
    if not answered.any():
        return None
    counts, sums = counts[answered], np.nansum(values[answered], axis=1)
    times = resample(len(counts), seed)
    low, high = np.percentile(100 * (times @ sums) / (times @ counts), (2.5, 97.5))
    point = 100 * sums.sum() / counts.sum()
    return {"n": int(counts.sum())} | {
        key: round(float(value), 4) for key, value in (("score", point), ("low", low), ("high", high))
    }


@lru_cache(maxsize=4)
def resample(count: int, seed: int) -> np.ndarray:
    """How often each of `count` questions is drawn in each resample [RESAMPLES, count], float64."""
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    drawn += count * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
