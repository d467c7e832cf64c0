"""Asking the models, one after another: answers/NAME.jsonl, and in answers/NAME.json what the model was asked with."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from threading import Lock

from ..common.errors import Skip, SolopoError
from ..common.files import read_json, write_json
from ..sampling.answer_file import finished
from ..sampling.base import Sample, SampleError, Sampler, TooLongError
from ..sampling.loop import sample
from ..sampling.marks import Marks
from ..sampling.samplers import make_sampler
from .arguments import EvalArguments, EvalModel
from .windows import lengths_beyond


def ask_models(args: EvalArguments, rows: Sequence[dict], marks: Mapping[str, Marks] = {}) -> dict[str, str]:
    """Asks each model what it has not answered yet.

    Args:
        rows: of contexts.jsonl.
        marks: of each model's answers, by its name; those of `Marks` where a model has none.

    Returns:
        Why a model is not finished, by name; the others are asked all the same.

    Raises:
        SolopoError: when a file of answers was made with other settings, before any model is asked.
    """
    by_id = {row["id"]: row for row in rows}
    answered = {
        model.name: finished(args.sampling(model), args.answers_path(model.name), by_id) for model in args.models
    }
    stopped = {}
    for model in args.models:
        try:
            failed = _ask(args, model, rows, answered[model.name], marks.get(model.name, Marks()))
        except SolopoError as error:
            stopped[model.name] = str(error)
            print(f"{model.name}: {error}", file=sys.stderr)
        else:
            if failed:
                stopped[model.name] = f"{failed} questions got no answer"
    return stopped


def fitting(rows: Sequence[dict], max_new_tokens: int, window: int | None) -> list[dict]:
    """The rows of the lengths that a model with this window takes."""
    beyond = lengths_beyond(((row["length"], row["tokens"]) for row in rows), max_new_tokens, window)
    return [row for row in rows if row["length"] not in beyond]


def _ask(args: EvalArguments, model: EvalModel, rows: Sequence[dict], answered: set[str], marks: Marks) -> int:
    """Asks one model, and returns how many questions got no answer."""
    asked_with = dataclasses.asdict(model) | {"max_new_tokens": args.max_new_tokens, "batch_size": args.batch_size}
    path = args.record_path(model.name)
    record = read_json(path, "eval") if path.is_file() else None
    known = None if record is None else record["window"]
    has_all = record is not None and record["arguments"] == asked_with
    has_all = has_all and all(row["id"] in answered for row in fitting(rows, args.max_new_tokens, known))
    # A changed model in this process is refused by its answers; a server may have been started anew, with a larger window.
    if has_all and (model.infer_backend != "openai" or len(answered) == len(rows)):
        return 0
    record = {"window": model.window or known, "arguments": asked_with}
    write_json(path, record)
    sampling = args.sampling(model)
    sampler = make_sampler(sampling)
    try:
        try:
            record["window"] = model.window or sampler.window or known
        except SolopoError:
            if has_all:
                return 0
            raise
        write_json(path, record)
        bounded = BoundedSampler(sampler, args.max_new_tokens, record["window"])
        try:
            counts = sample(
                sampling,
                fitting(rows, args.max_new_tokens, record["window"]),
                args.answers_path(model.name),
                bounded,
                problem=lambda each: marks.no_answer(each.text),
                size=lambda row: row["tokens"],  # long contexts take longer, and they come last
                desc=model.name,
                unit="tok",
                unit_scale=True,
            )
        finally:
            record["window"] = bounded.window
            write_json(path, record)
    finally:
        sampler.close()
    return counts.failed


class BoundedSampler:
    """Learns a server's window from what it refuses, and asks nothing beyond it."""

    def __init__(self, sampler: Sampler, max_new_tokens: int, window: int | None) -> None:
        self.workers = sampler.workers
        self.stream = getattr(sampler, "stream", None)  # of a model in this process, whose window is known
        self.window = window
        self._sampler = sampler
        self._max_new_tokens = max_new_tokens
        self._lock = Lock()

    def __call__(self, row: dict) -> list[Sample]:
        needed = row["tokens"] + self._max_new_tokens
        if self.window is not None and needed > self.window:
            raise Skip("beyond the window")
        try:
            return self._sampler(row)
        except TooLongError:
            with self._lock:
                self.window = needed - 1 if self.window is None else min(self.window, needed - 1)
            raise Skip("beyond the window") from None

    def together(self, rows: Sequence[dict]) -> list[list[Sample] | SampleError]:
        """As the model in this process does, whose window is known."""
        return self._sampler.together(rows)
