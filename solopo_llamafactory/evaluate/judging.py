"""A run's files as arrays: where each context stands in the grid, and whether a model's answer there is right (sub-EM).

An array of scores has the shape [questions, lengths, depths]: 1 where the answer is right, 0 where it is wrong, and nan
where there is none, be it beyond the model's window or not asked yet.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.errors import SolopoError
from ..common.files import read_rows
from ..questions.sub_em import sub_em
from ..sampling.marks import CUT_OFF, Marks
from .arguments import EvalArguments
from .windows import lengths_beyond


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
    cut_off: int  # answers that ended at max_new_tokens
    problems: Counter[str]  # by `Reading.problem`, those cut off aside
    end_marks: int


def read_contexts_without_prompts(path: Path) -> Iterator[dict]:
    """The rows of contexts.jsonl without their prompts, by far the largest part."""
    from tqdm import tqdm

    for row in tqdm(read_rows(path, "eval"), desc="reading contexts", unit="context", dynamic_ncols=True):
        del row["prompt"]
        yield row


def read_places(path: Path) -> Grid:
    """The places of all contexts of a contexts.jsonl, lengths and depths ascending."""
    rows = list(read_contexts_without_prompts(path))
    if not rows:
        raise SolopoError(f"'{path}' holds no contexts: delete it and run `solopo eval` again.")
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


def read_answers(path: Path) -> Iterator[dict]:
    """The rows of a model's answers, none where it has not been asked yet."""
    return read_rows(path, "eval") if path.is_file() else iter(())


def judge_answers(args: EvalArguments, name: str, grid: Grid, window: int | None, marks: Marks) -> Scores:
    """Judge a model's answers, by what follows their thoughts, but for the lengths beyond its window."""
    right = np.full(grid.shape, np.nan)
    cut_off = np.zeros(grid.shape, bool)
    problems: Counter[str] = Counter()
    end_marks = 0
    markers = args.prompt_wording.markers
    contexts = ((place.length, place.tokens) for place in grid.places.values())
    beyond = np.isin(range(len(grid.lengths)), list(lengths_beyond(contexts, args.max_new_tokens, window)))
    for row in read_answers(args.answers_path(name)):
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
