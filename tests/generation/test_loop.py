"""Answers of our own generation: the tokens of `generate`, and the same whatever else is under way."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig, PreTrainedModel

from solopo_llamafactory.generation import loop, room
from solopo_llamafactory.generation.attention import attend_causally
from solopo_llamafactory.generation.choice import decoding_of
from solopo_llamafactory.generation.fit import fit_of
from solopo_llamafactory.generation.loop import Request, generate, groups_of
from solopo_llamafactory.generation.rows import Rows
from tests.helpers.generation import CONFIGS, drawn, greedy, make, prompts_of


LENGTHS = (1, 2, 5, 17, 18, 23, 24, 25, 40, 64, 90, 3)


def ask(
    model: PreTrainedModel,
    requests: list[Request],
    config: GenerationConfig,
    unasked: set[int] | None = None,
    most_prompts: int | None = None,
) -> dict[int, list[list[int]]]:
    unasked = set(range(len(requests))) if unasked is None else unasked
    decoding = decoding_of(model, config)
    return dict(generate(model, requests, decoding, fit_of(model, 1000), unasked, most_prompts))


def plain(model: PreTrainedModel, prompt: list[int], config: GenerationConfig) -> list[int]:
    """Greedy tokens of transformers' `generate`, one prompt at a time."""
    tokens = torch.tensor([prompt])
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=config)[0].tolist()[
        len(prompt) :
    ]


@pytest.mark.parametrize("most_prompts", [None, 3])
@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_are_those_of_generate(family, most_prompts):
    """Prompts within and beyond the windows, answers that grow out of them, ends of many kinds, slots that are filled again."""
    model, prompts, config = make(family), prompts_of(*LENGTHS), greedy()
    expected = [plain(model, prompt, config) for prompt in prompts]
    found = ask(model, [Request(prompt, [0]) for prompt in prompts], config, most_prompts=most_prompts)
    assert [found[index] for index in range(len(prompts))] == [[tokens] for tokens in expected]
    if not family.startswith("gemma"):  # whose answers seldom end
        assert len({len(tokens) for tokens in expected}) > 4


def test_the_ordinary_attention_is_there_between_the_answers():
    model, config = make("qwen2"), greedy()
    prompts = prompts_of(30, 31, 32)
    expected = plain(model, prompts[0], config)
    decoding, fit = decoding_of(model, config), fit_of(model, 100)
    requests = [Request(prompt, [0]) for prompt in prompts]
    for index, answers in generate(model, requests, decoding, fit, {0, 1, 2}, most_prompts=1):
        assert model.config._attn_implementation == "eager"
        assert plain(model, prompts[index], config) == answers[0]
    assert plain(model, prompts[0], config) == expected


def test_drawn_answers_depend_on_their_seed_and_prompt_alone(monkeypatch):
    """Not on what is under way beside them, nor on how many answers share a slot."""
    model, config = make("llama"), drawn(top_p=0.9)
    requests = [Request(prompt, range(7 * i, 7 * i + 5)) for i, prompt in enumerate(prompts_of(*LENGTHS))]
    together = ask(model, requests, config)
    assert len({tuple(answer) for answers in together.values() for answer in answers}) > 50
    for index, request in enumerate(requests):
        assert ask(model, [request], config) == {0: together[index]}
    monkeypatch.setattr(room, "MOST_WIDTH", 2)
    assert ask(model, requests, config, most_prompts=5) == together
    monkeypatch.setattr(loop, "STEPS", 1)
    assert ask(model, requests, config) == together


def test_the_same_seed_draws_the_same_and_another_seed_something_else():
    model, config = make("qwen2"), drawn()
    (prompt,) = prompts_of(20)
    (answers,) = ask(model, [Request(prompt, [5, 6, 5])], config).values()
    assert answers[0] == answers[2] != answers[1]


def test_a_part_is_answered_as_in_the_whole():
    model, config = make("mistral"), drawn()
    requests = [Request(prompt, [i, i + 100]) for i, prompt in enumerate(prompts_of(*LENGTHS))]
    whole = ask(model, requests, config)
    for part in ({0}, {3, 4, 11}, set(range(6, 12)), set()):
        assert ask(model, requests, config, part) == {index: whole[index] for index in part}


def test_drawn_tokens_have_the_models_probabilities():
    """First tokens of many answers, against the distribution that `generate` would draw from."""
    model, config = make("qwen2"), drawn(max_new_tokens=1, temperature=2.0)
    (prompt,) = prompts_of(9)
    (answers,) = ask(model, [Request(prompt, range(20000))], config).values()
    counts = torch.bincount(torch.tensor(answers)[:, 0], minlength=300).double()
    with torch.inference_mode():
        expected = (model(torch.tensor([prompt])).logits[0, -1] / 2).softmax(-1).double() * len(answers)
    often = expected > 5
    chi_squared = ((counts - expected)[often] ** 2 / expected[often]).sum().item()
    assert often.sum() > 10
    assert chi_squared < often.sum() + 4 * (2 * often.sum()) ** 0.5  # 4 deviations; the seeds are fixed


def test_less_memory_gives_the_same_answers(monkeypatch):
    model, config = make("llama"), drawn()
    requests = [Request(prompt, [i, i + 100, i + 200]) for i, prompt in enumerate(prompts_of(*LENGTHS))]
    expected = ask(model, requests, config)
    tried = []
    fill = Rows.fill

    def scarce(self, slots, prompts):
        tried.append((self.shape.prompts, self.shape.width))
        if self.shape.prompts * self.shape.width > 2 and len(tried) % 3 == 0:
            raise torch.OutOfMemoryError("no memory")
        return fill(self, slots, prompts)

    monkeypatch.setattr(Rows, "fill", scarce)
    monkeypatch.setattr(room, "PREFILL_TOKENS", {"cpu": 100})
    assert ask(model, requests, config) == expected
    assert len(set(tried)) > 2

    def none(self, slots, prompts):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Rows, "fill", none)
    with pytest.raises(torch.OutOfMemoryError):
        ask(model, requests, config)


def test_like_lengths_share_a_group():
    assert list(groups_of([])) == []
    assert list(groups_of([3, 128, 1, 90])) == [range(0, 4)]
    assert list(groups_of([300, 310, 1100, 1000, 7500])) == [range(0, 2), range(2, 4), range(4, 5)]
    assert list(groups_of([1000, 300, 1000])) == [range(0, 1), range(1, 2), range(2, 3)]
    assert list(groups_of([1000, 1400, 1600])) == [range(0, 2), range(2, 3)]


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that was made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.untyped_storage().nbytes():
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return result


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (100, None), (None, 2.0), (100, 2.0)])
def test_no_tensor_has_all_pairs_of_a_prompts_tokens(window, softcap):
    """Neither scores nor a mask; and the result is that of a full mask, tile by tile."""
    length = 4096
    query, key, value = torch.randn(1, 2, length, 8), torch.randn(1, 1, length, 8), torch.randn(1, 1, length, 8)
    with Largest() as largest:
        found = attend_causally(query, key, value, 0.5, window, softcap)
    assert 0 < largest.numbers <= length**2 // 4
    some = torch.tensor([0, 1, 99, 100, 101, 255, 256, 300, 4000, 4095])
    scores = (query[:, :, some] @ key.transpose(2, 3)) * 0.5
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    distance = some[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    expected = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value
    torch.testing.assert_close(found[:, :, some], expected, rtol=1e-4, atol=1e-5)
