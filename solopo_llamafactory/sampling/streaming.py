"""Samples by our own generation, with the model, the tokenizer and the prompts of LLaMA-Factory's huggingface engine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch import OutOfMemoryError

from ..common.errors import SolopoError
from ..common.parallel import number_of_workers
from ..generation.choice import Decoding, decoding_of
from ..generation.errors import UnfitError
from ..generation.fit import fit_of
from ..generation.loop import Request, generate
from ..host.chat import prompt_inputs
from ..model.probe import below_adapter
from .arguments import SamplingArguments
from .base import Sample, SampleError, reason, seed_of
from .texts import samples_of


INPUTS = {"inputs", "attention_mask", "generation_config"}


class Stream:
    """Samples of many questions by one model. Each sample has a seed of its own, whatever else is asked beside it."""

    def __init__(self, args: SamplingArguments, engine: Any, rows: Sequence[dict]) -> None:
        """Renders the prompts and looks at the model.

        Raises:
            UnfitError: when the model must be asked by transformers' own `generate`.
        """
        self.args, self.engine, self.rows = args, engine, rows
        self.model = below_adapter(engine.model)
        self._requests: dict[int, Request] = {}  # by the row's place
        self._refused: dict[int, SampleError] = {}
        self._decoding: Decoding | None = None
        for place, (row, inputs) in enumerate(zip(rows, self._inputs())):
            if isinstance(inputs, SampleError):
                self._refused[place] = inputs
                continue
            if self._decoding is None:
                if further := inputs.keys() - INPUTS:
                    raise UnfitError(f"its prompts have `{min(further)}` beside their tokens")
                self.generation_config = inputs["generation_config"]
                self._decoding = decoding_of(self.model, self.generation_config)
            count = 1 if self._decoding.warpers is None else args.n  # greedy answers are all the same
            seeds = [seed_of(args, row, index) for index in range(count)]
            self._requests[place] = Request(inputs["inputs"][0].tolist(), seeds)
        longest = max((len(request.prompt_ids) for request in self._requests.values()), default=0)
        if self._decoding is not None:
            self._fit = fit_of(self.model, longest + self._decoding.max_new_tokens)

    def _inputs(self) -> Iterator[dict[str, Any] | SampleError]:
        def of_row(row: dict) -> dict[str, Any] | SampleError:
            try:
                return prompt_inputs(self.engine, row["prompt"], 1)
            except ValueError as error:
                return SampleError(f"question {row['id']} is refused by the engine ({reason(error)})")

        with ThreadPoolExecutor(number_of_workers(None)) as threads:  # a fast tokenizer frees the interpreter's lock
            yield from threads.map(of_row, self.rows)

    def __call__(self, unasked: dict[str, dict]) -> Iterator[tuple[dict, list[Sample] | SampleError]]:
        """The samples of the rows with these ids, in the rows' order.

        Raises:
            SolopoError: when the memory is too small for one answer at a time.
        """
        places = [place for place, row in enumerate(self.rows) if row["id"] in unasked]
        finished: dict[int, list[Sample] | SampleError] = dict(self._refused)
        answers = self._answers(set(places))
        for place in places:
            while place not in finished:
                other, samples = next(answers)
                finished[other] = samples
            yield self.rows[place], finished.pop(place)

    def _answers(self, places: set[int]) -> Iterator[tuple[int, list[Sample]]]:
        order = list(self._requests)
        requests = list(self._requests.values())
        unasked = {index for index, place in enumerate(order) if place in places}
        most = self.args.batch_size
        try:
            for index, answers in generate(self.model, requests, self._decoding, self._fit, unasked, most):
                samples = samples_of(self.engine, self.generation_config, answers)
                yield order[index], samples * (self.args.n // len(samples))
        except OutOfMemoryError:
            raise SolopoError(
                "the GPU's memory is too small for one answer at a time with this model: leave out the longest contexts, "
                "or ask a server (infer_backend: openai)."
            ) from None
