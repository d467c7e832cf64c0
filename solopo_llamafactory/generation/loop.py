"""Answers to many prompts."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from .choice import Decoding, uniform_numbers
from .fit import Fit
from .room import Shape, shape_of
from .rows import Rows


STEPS = 4  # between two looks at which answers have ended
STRETCH = 1.5  # how much longer than the shortest prompt of a group its longest may be
SHORT = 128  # tokens; such prompts may share a group at any rate


@dataclass(frozen=True)
class Request:
    """A prompt and one seed for each answer to it."""

    prompt_ids: Sequence[int]
    seeds: Sequence[int]


def generate(
    model: PreTrainedModel,
    requests: Sequence[Request],
    decoding: Decoding,
    fit: Fit,
    unasked: set[int],
    most_prompts: int | None = None,
) -> Iterator[tuple[int, list[list[int]]]]:
    """Answers as they become complete.

    Where only a part is asked, the sizes of all tensors are still those of the whole, so a run that was stopped and goes
    on computes what an undisturbed one does, bit by bit as far as the kernels' results do not depend on a row's place.

    Args:
        model: below any adapter, in evaluation mode and with its ordinary attention.
        requests: in an order in which prompts of like length stand together.
        decoding: how answers are made.
        fit: see `fit_of`.
        unasked: indices of the requests to answer.
        most_prompts: see `shape_of`.

    Yields:
        A request's index and the tokens of its answers.

    Raises:
        torch.OutOfMemoryError: when the memory is too small for one answer at a time.
    """
    device = model.get_input_embeddings().weight.device
    for group in groups_of([len(request.prompt_ids) for request in requests]):
        missing = [index for index in group if index in unasked]
        if not missing:
            continue
        lengths = [len(requests[index].prompt_ids) for index in group]
        answers = max(len(requests[index].seeds) for index in group)
        shape: Shape | None = shape_of(lengths, answers, decoding.max_new_tokens, fit, device, most_prompts)
        while missing:
            try:
                for index, tokens in _answer(model, requests, missing, decoding, shape, fit.vocabulary):
                    missing.remove(index)
                    yield index, tokens
            except torch.OutOfMemoryError:
                shape = shape.halved()
                if shape is None:
                    raise
                # Here the frames that hold the tensors are gone.
            torch.cuda.empty_cache()


def groups_of(lengths: Sequence[int]) -> Iterator[range]:
    """Consecutive prompts of like length."""
    start, shortest, longest = 0, 0, 0
    for index, length in enumerate(lengths):
        if index == start:
            shortest = longest = length
        shortest, longest = min(shortest, length), max(longest, length)
        if longest > max(SHORT, STRETCH * shortest):
            yield range(start, index)
            start, shortest, longest = index, length, length
    if start < len(lengths):
        yield range(start, len(lengths))


@dataclass
class _Slot:
    """A prompt under way: its index among the requests, the answers that have not begun, and those that are complete."""

    index: int
    waiting: deque[int]
    answers: dict[int, list[int]] = field(default_factory=dict)


def _answer(
    model: PreTrainedModel,
    requests: Sequence[Request],
    indices: Sequence[int],
    decoding: Decoding,
    shape: Shape,
    vocabulary: int,
) -> Iterator[tuple[int, list[list[int]]]]:
    rows = Rows(model, shape, decoding, vocabulary)
    unfilled = deque(indices)
    slots: list[_Slot | None] = [None] * shape.prompts
    growing: dict[int, int] = {}  # row -> which answer of its slot's prompt
    while True:
        free = [place for place, slot in enumerate(slots) if slot is None]
        while unfilled and len(free) >= (count := min(shape.together, len(unfilled))):
            places, free = free[:count], free[count:]
            for place in places:
                index = unfilled.popleft()
                slots[place] = _Slot(index, deque(range(len(requests[index].seeds))))
            rows.fill(places, [requests[slots[place].index].prompt_ids for place in places])
        begun = {
            row: slot.waiting.popleft()
            for place, slot in enumerate(slots)
            for row in range(place * shape.width, (place + 1) * shape.width)
            if slot is not None and slot.waiting and row not in growing
        }
        if begun:
            asked = [requests[slots[row // shape.width].index] for row in begun]
            seeds = [request.seeds[which] for request, which in zip(asked, begun.values())]
            numbers = None if decoding.warpers is None else uniform_numbers(seeds, decoding.max_new_tokens)
            rows.begin(list(begun), [request.prompt_ids for request in asked], numbers)
            growing |= begun
        if not growing:
            return
        has_ended = rows.grow(STEPS)
        ended = [row for row in growing if has_ended[row]]
        if not ended:
            continue
        for row, tokens in zip(ended, rows.answers(ended)):
            place = row // shape.width
            slot = slots[place]
            slot.answers[growing.pop(row)] = tokens
            if len(slot.answers) == len(requests[slot.index].seeds):
                slots[place] = None
                yield slot.index, [slot.answers[which] for which in sorted(slot.answers)]
