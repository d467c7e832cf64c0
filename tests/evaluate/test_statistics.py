"""Intervals: how sure a score is."""

import numpy as np

from solopo_llamafactory.evaluate.statistics import estimate


def test_intervals_cover_the_truth_and_the_question_is_their_unit():
    """With 60 questions of uneven hardness in 6 cells; drawing single answers would be far too sure."""
    rng = np.random.default_rng(1)
    trials, covered, covered_by_rows = 300, 0, 0
    for _ in range(trials):
        chance = rng.beta(1, 1, size=(60, 1))  # on average 50%
        values = (rng.random((60, 6)) < chance).astype(float)
        for unit in ("question", "row"):
            group = estimate(values if unit == "question" else values.reshape(-1, 1), seed=0)
            hit = group["low"] <= 50 <= group["high"]
            covered += hit and unit == "question"
            covered_by_rows += hit and unit == "row"
    assert 0.91 <= covered / trials <= 0.98
    assert covered_by_rows / trials < 0.8


def test_asking_a_question_again_makes_nothing_surer():
    values = (np.random.default_rng(0).random((50, 1)) < 0.6).astype(float)
    once, often = estimate(values, 42), estimate(np.repeat(values, 7, axis=1), 42)
    assert often == once | {"n": 350}


def test_same_seed_same_intervals():
    values = (np.random.default_rng(0).random((50, 3)) < 0.6).astype(float)
    assert estimate(values, 1) == estimate(values.copy(), 1) != estimate(values, 2)
