"""Choosing tokens: what a generation config asks for is followed or named, and draws follow the distribution."""

import pytest
import torch
from transformers import GenerationConfig

from solopo_llamafactory.generation.choice import Decoding, decoding_of, uniform_numbers
from solopo_llamafactory.generation.errors import UnfitError
from tests.helpers.generation import drawn, greedy, make


@pytest.fixture(scope="module")
def model():
    return make("llama")


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.1},
        {"num_beams": 2},
        {"min_p": 0.1},
        {"typical_p": 0.5},
        {"no_repeat_ngram_size": 3},
        {"min_new_tokens": 2},
        {"suppress_tokens": [5]},
        {"stop_strings": ["x"]},
        {"max_time": 3.0},
        {"bad_words_ids": [[5]]},
    ],
)
def test_what_is_not_followed_is_named(model, settings):
    with pytest.raises(UnfitError, match=next(iter(settings))):
        decoding_of(model, drawn(**settings))


def test_the_models_own_defaults_count_as_in_generate():
    model = make("llama")
    model.generation_config = GenerationConfig(repetition_penalty=1.2)
    with pytest.raises(UnfitError, match="repetition_penalty: 1.2"):
        decoding_of(model, drawn())
    model.generation_config = GenerationConfig(top_p=0.5, cache_implementation="static")
    assert [warper.top_p for warper in decoding_of(model, drawn(temperature=1.0)).warpers] == [0.5]


def test_what_changes_no_token_is_taken(model):
    config = greedy(7, [5, 9])
    config.update(length_penalty=2.0, skip_special_tokens=False)
    assert decoding_of(model, config) == Decoding(7, frozenset({5, 9}))
    with pytest.raises(UnfitError, match="max_length"):
        decoding_of(model, GenerationConfig(max_length=50))


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.7}, {"top_k": 5}, {"top_p": 0.6, "top_k": 20}])
def test_draws_follow_the_distribution_and_keep_out_what_is_cut_off(model, settings):
    """Numbers at equal distances hit each token as often as its probability says, the last number included."""
    decoding = decoding_of(model, drawn(temperature=0.7, **settings))
    torch.manual_seed(0)
    logits = torch.randn(1, 40) * 2
    uniform = torch.cat([(torch.arange(9999) + 0.5) / 9999, torch.tensor([1 - 2**-53], dtype=torch.float64)])
    tokens = decoding(logits.expand(len(uniform), -1), uniform.double())
    scores = logits
    for warper in decoding.warpers:
        scores = warper(None, scores)
    shares = torch.bincount(tokens, minlength=40) / len(tokens)
    torch.testing.assert_close(shares, scores.softmax(-1)[0], atol=3e-4, rtol=0)
    assert (scores[0, tokens] > -torch.inf).all()


def test_the_last_token_is_never_drawn_when_it_is_cut_off():
    decoding = Decoding(1, frozenset(), ())
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert decoding(logits, torch.tensor([1 - 2**-53], dtype=torch.float64)).item() == 1
    assert decoding(torch.tensor([[-torch.inf, 0.0, 0.0]]), torch.zeros(1, dtype=torch.float64)).item() == 1


def test_numbers_belong_to_their_seed():
    numbers = uniform_numbers([3, 4, 3], 6)
    assert numbers.shape == (3, 6) and numbers.dtype == torch.float64
    assert torch.equal(numbers[0], numbers[2]) and not torch.equal(numbers[0], numbers[1])
    assert torch.equal(uniform_numbers([3], 9)[0, :6], numbers[0])
