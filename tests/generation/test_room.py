"""How much is under way at a time."""

import pytest
import torch

from solopo_llamafactory.generation import room
from solopo_llamafactory.generation.fit import Fit
from solopo_llamafactory.generation.room import Shape, shape_of


CPU, FIT = torch.device("cpu"), Fit(token_bytes=1000, vocabulary=100)


@pytest.fixture(autouse=True)
def much_memory(monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda device: 2**50)


def test_turns_are_of_about_the_same_size():
    assert shape_of([50] * 300, 1, 10, FIT, CPU).prompts == 100  # not 128, 128 and 44
    assert shape_of([50] * 3, 1, 10, FIT, CPU).prompts == 3
    assert shape_of([50] * 300, 1, 10, FIT, CPU, most_prompts=7).prompts == 7


def test_answers_to_a_prompt_share_its_slot():
    shape = shape_of([50, 80], 40, 10, FIT, CPU)
    assert (shape.width, shape.prompts, shape.prompt_tokens) == (14, 2, 79)
    assert shape_of([1], 5, 10, FIT, CPU).width == 5


def test_less_memory_means_less_under_way(monkeypatch):
    sizes = []
    for memory in (2**50, 10**8, 10**7, 10**6, 0):
        monkeypatch.setattr(room, "free_memory", lambda device, memory=memory: memory)
        shape = shape_of([500] * 64, 4, 100, FIT, CPU)
        assert shape.memory(FIT) <= room.SHARE * memory or (shape.prompts, shape.width) == (1, 1)
        assert shape.together <= shape.prompts
        sizes.append(shape.prompts * shape.width)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 128 and sizes[-1] == 1


def test_halves_end():
    shape, seen = Shape(7, 5, 10, 10, 4), []
    while shape is not None:
        seen.append((shape.prompts, shape.width))
        shape = shape.halved()
    assert seen == [(7, 5), (4, 5), (2, 5), (1, 5), (1, 3), (1, 2), (1, 1)]
