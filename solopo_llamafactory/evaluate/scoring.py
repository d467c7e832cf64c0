"""Scores of a run from its files: sub-EM by length, depth and hops, with intervals, and differences to the first model.

An array of scores has the shape [questions, lengths, depths]: 1 where the answer is right, 0 where it is wrong, and nan
where there is none, be it beyond the model's window or not asked yet.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import SolopoError
from ..common.files import atomic_writer, read_json, read_rows, write_json
from ..common.markdown import table
from ..common.pages import TITLES
from ..questions.sub_em import sub_em
from ..sampling.marks import CUT_OFF, Marks, remarks
from .windows import lengths_beyond


if TYPE_CHECKING:
    from .arguments import EvalArguments


RESAMPLES = 2000
BEYOND = "beyond the window"
TASKS_IN_WORDS = {
    "multi_doc": "the evidence spread over the context, the first hop's at the named depth",
    "single_doc": "the evidence side by side at the named depth",
}


@dataclass(frozen=True)
class Place:
    """Where a context stands in the arrays, and what its answer is judged by."""

    question: int
    length: int
    depth: int
    tokens: int
    answers: list[str]


@dataclass(frozen=True)
class Grid:
    """The contexts of a run, without their texts."""

    places: dict[str, Place]  # by id
    lengths: list[int]
    depths: list[float]
    hops: np.ndarray  # of each question
    source: str
    licence: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.hops), len(self.lengths), len(self.depths)


@dataclass(frozen=True)
class Scores:
    """One model's answers, judged."""

    right: np.ndarray  # [questions, lengths, depths]
    beyond: np.ndarray  # [lengths], whether the length is beyond the window
    window: int | None
    asked: int  # contexts within the window
    unfinished: int
    problems: Counter[str]  # by `Reading.problem`, those cut off aside
    end_marks: int


def score(args: "EvalArguments", marks: Mapping[str, Marks] = {}, stopped: Mapping[str, str] = {}) -> dict:
    """Write `results.json` and `table.md` from the contexts and the answers that are there.

    Args:
        marks: of each model's answers, by its name; those of `Marks` where a model has none.
        stopped: why a model was not asked to the end, by its name.

    Raises:
        SolopoError: naming a file that is missing or broken.
    """
    grid = read_grid(args)
    names = [model["name"] for model in args.models]
    windows = {name: read_json(args.record_path(name), "eval")["window"] for name in names}
    scores = {name: judge(args, name, grid, windows[name], marks.get(name, Marks())) for name in names}
    common = ~np.any([each.beyond for each in scores.values()], axis=0)
    base = scores[names[0]]
    models = {}
    for name, own in scores.items():
        models[name] = {
            "window": own.window,
            "asked": own.asked,
            "unfinished": own.unfinished,
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


def read_contexts(args: "EvalArguments") -> Iterator[dict]:
    """The rows of contexts.jsonl without their prompts, by far the largest part."""
    from tqdm import tqdm

    for row in tqdm(
        read_rows(args.contexts_path, "eval"), desc="reading contexts", unit="context", dynamic_ncols=True
    ):
        del row["prompt"]
        yield row


def read_grid(args: "EvalArguments") -> Grid:
    """The places of all contexts, lengths and depths ascending."""
    rows = list(read_contexts(args))
    if not rows:
        raise SolopoError(f"'{args.contexts_path}' holds no contexts: delete it and run `solopo eval` again.")
    lengths, depths = (sorted({row[key] for row in rows}) for key in ("length", "depth"))
    hops = {row["question_id"]: row["hops"] for row in rows}
    numbers = {
        "question": {id: number for number, id in enumerate(hops)},
        "length": {length: number for number, length in enumerate(lengths)},
        "depth": {depth: number for number, depth in enumerate(depths)},
    }
    places = {
        row["id"]: Place(
            numbers["question"][row["question_id"]],
            numbers["length"][row["length"]],
            numbers["depth"][row["depth"]],
            row["tokens"],
            row["answers"],
        )
        for row in rows
    }
    return Grid(places, lengths, depths, np.array(list(hops.values())), rows[0]["source"], rows[0]["licence"])


def read_answers(args: "EvalArguments", name: str) -> Iterator[dict]:
    """The rows of a model's answers, none where it has not been asked yet."""
    path = args.answers_path(name)
    return read_rows(path, "eval") if path.is_file() else iter(())


def judge(args: "EvalArguments", name: str, grid: Grid, window: int | None, marks: Marks) -> Scores:
    """Judge a model's answers, by what follows their thoughts, but for the lengths beyond its window."""
    right = np.full(grid.shape, np.nan)
    cut_off = np.zeros(grid.shape, bool)
    problems: Counter[str] = Counter()
    end_marks = 0
    markers = args.prompt_wording.markers
    contexts = ((place.length, place.tokens) for place in grid.places.values())
    beyond = np.isin(range(len(grid.lengths)), list(lengths_beyond(contexts, args.max_new_tokens, window)))
    for row in read_answers(args, name):
        place = grid.places.get(row["id"])
        if place is None:  # of an earlier grid
            continue
        at = place.question, place.length, place.depth
        answer = row["samples"][0]
        reading = marks.read(answer["text"], answer["finish"])
        if not beyond[place.length]:
            problems.update([reading.problem] if reading.problem not in (None, CUT_OFF) else [])
            end_marks += reading.end_mark
        right[at] = sub_em(reading.answer, place.answers, markers)
        cut_off[at] = answer["finish"] == "length"
    right[:, beyond] = np.nan
    cut_off[:, beyond] = False
    asked = sum(not beyond[place.length] for place in grid.places.values())
    return Scores(right, beyond, window, asked, int(cut_off.sum()), problems, end_marks)


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


def make_table(results: dict, grid: dict) -> str:
    """The scores and the differences by length, as Markdown."""
    lengths, models = results["lengths"], results["models"]
    header = ["model", *(f"{length:,}" for length in lengths), "all"]
    beyond = {name: beyond_lengths(results, name) for name in models}

    def row(name: str, groups: dict, sign: str) -> list[str]:
        cells = [
            BEYOND if length in beyond[name] else interval(groups["by_length"][str(length)], sign)
            for length in lengths
        ]
        return [name, *cells, interval(groups["all"], sign)]

    tables = [table(header, [row(name, model, "") for name, model in models.items()])]
    baseline = results["baseline"]
    if len(models) > 1:
        differences = ((name, model["difference"]) for name, model in models.items() if name != baseline)
        tables.append(table(header, [row(name, groups, "+") for name, groups in differences]))
    titles = [
        f"Right answers in % (sub-EM) with 95% intervals by context length in tokens: {results['questions']:,} questions "
        f"of {TITLES.get(results['source'], results['source'])} ({results['licence']}), {TASKS_IN_WORDS[results['task']]}.",
        f"Paired difference to {baseline} in points.",
    ]
    parts = [f"{title}\n\n{lines}" for title, lines in zip(titles, tables)]
    parts.append("\n".join(f"- {text}" for _, text in notes(results, grid)))
    return "\n\n".join(parts) + "\n"


def interval(group: dict | None, sign: str = "") -> str:
    """An estimate as text; `sign` is "+" where the sign is to be shown."""
    if group is None:
        return "-"
    return f"{group['score']:{sign}.1f} [{group['low']:{sign}.1f}, {group['high']:{sign}.1f}]"


def beyond_lengths(results: dict, name: str) -> list[int]:
    """The lengths beyond a model's window."""
    return sorted({cell["length"] for cell in results["models"][name]["cells"] if cell["state"] == BEYOND})


def notes(results: dict, grid: dict) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is as it should be, a sentence): what to know before reading the scores."""
    models, common = results["models"], results["common_lengths"]
    asked, missing = (sum(model[key] for model in models.values()) for key in ("asked", "missing"))
    if missing:
        lacking = ", ".join(f"{name} {model['missing']:,}" for name, model in models.items() if model["missing"])
        yield (
            False,
            f"{missing:,} of {asked:,} answers are missing ({lacking}): scores are of those that are there, and not to be "
            "compared over all lengths yet; the same command asks the rest.",
        )
    else:
        yield True, f"All {asked:,} prompts within the models' windows were answered."
    for name, model in models.items():
        if lengths := beyond_lengths(results, name):
            takes = "" if model["window"] is None else f" takes {model['window']:,} tokens, prompt and answer together"
            yield (
                False,
                f"{name}{takes}: {listed(lengths)} tokens {'is' if len(lengths) == 1 else 'are'} beyond its window and "
                "not scored.",
            )
    if not common:
        yield (
            False,
            "No length is within the window of every model, so there are no scores over all lengths: leave out models with "
            "small windows to get them.",
        )
    elif len(common) < len(results["lengths"]):
        yield (
            False,
            f"Scores over all lengths, by depth and by hops are of {listed(common)} tokens, which every model takes.",
        )
    for name, model in models.items():
        if model["unfinished"]:
            share = model["unfinished"] / (model["asked"] - model["missing"])
            yield (
                share <= 0.05,
                f"{name}: {model['unfinished']:,} answers ({share:.1%}) were cut off at max_new_tokens and judged as they "
                "stand.",
            )
        if model["stopped"]:
            yield False, f"{name} is not finished: {model['stopped'].rstrip('.')}."
        answered = model["asked"] - model["missing"]
        for is_good, text in remarks(model["problems"], model["end_marks"], answered, "and are judged as they stand"):
            yield is_good, f"{name}: {text}"
    for length, count in grid["short"].items():
        if count:
            yield (
                False,
                f"{count:,} contexts of {int(length):,} tokens stay well below that for want of documents: give a corpus "
                "of more.",
            )
    if other := grid.get("other_texts"):
        yield False, f"The wording of the prompts differs from that of the pairs under `exclude` ({', '.join(other)})."
    if results["questions"] < 100:
        yield (
            False,
            f"{results['questions']:,} questions are few: expect wide intervals, and do not trust narrow ones.",
        )


def listed(numbers: list[int]) -> str:
    """`1,000, 2,000 and 4,000`."""
    texts = [f"{number:,}" for number in numbers]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
