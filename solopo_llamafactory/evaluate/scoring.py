"""Scores of a run from its files: sub-EM by length, depth and hops, with intervals, and differences to the first model."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ..common.files import atomic_writer, read_json, write_json
from ..sampling.marks import Marks
from .arguments import EvalArguments
from .judging import judge_answers, read_places
from .statistics import make_cells, make_difference, make_groups
from .table import make_table


def score(args: EvalArguments, marks: Mapping[str, Marks] = {}, stopped: Mapping[str, str] = {}) -> dict:
    """Write `results.json` and `table.md` from the contexts and the answers that are there.

    Args:
        marks: of each model's answers, by its name; those of `Marks` where a model has none.
        stopped: why a model was not asked to the end, by its name.

    Raises:
        SolopoError: naming a file that is missing or broken.
    """
    grid = read_places(args.contexts_path)
    names = [model.name for model in args.models]
    windows = {name: read_json(args.record_path(name), "eval")["window"] for name in names}
    scores = {name: judge_answers(args, name, grid, windows[name], marks.get(name, Marks())) for name in names}
    common = ~np.any([each.beyond for each in scores.values()], axis=0)
    base = scores[names[0]]
    models = {}
    for name, own in scores.items():
        models[name] = {
            "window": own.window,
            "asked": own.asked,
            "unfinished": own.cut_off,
            "stopped": stopped.get(name),
            "problems": dict(own.problems.most_common()),
            "end_marks": own.end_marks,
            "missing": own.asked - int(np.isfinite(own.right).sum()),
            "cells": make_cells(grid, own),
            **make_groups(own.right, grid, common, args.seed),
        }
        if own is not base:
            models[name]["difference"] = make_difference(own.right - base.right, grid, common, args.seed)
    results = {
        "arguments": asdict(args),
        "source": grid.source,
        "licence": grid.licence,
        "task": args.task,
        "lengths": grid.lengths,
        "depths": grid.depths,
        "common_lengths": [length for length, taken in zip(grid.lengths, common) if taken],
        "questions": len(grid.hops),
        "baseline": names[0],
        "models": models,
    }
    write_json(args.folder / "results.json", results)
    with atomic_writer(args.folder / "table.md") as file:
        file.write(make_table(results, read_json(args.grid_path, "eval")))
    return results
