"""Which models are asked by our generation: found by running them, with a reason for each that is not."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MambaConfig, T5Config, T5ForConditionalGeneration

from solopo_llamafactory.generation.errors import UnfitError
from solopo_llamafactory.generation.fit import TOLERANCE, difference_to_plain, fit_of
from tests.helpers.generation import CONFIGS, SIZES, make


@pytest.mark.parametrize("family", CONFIGS)
def test_what_a_token_takes(family):
    model = make(family)
    heads, size = model.config.num_key_value_heads, getattr(model.config, "head_dim", None) or 16
    fit = fit_of(model, 4096)
    assert (fit.token_bytes, fit.vocabulary) == (4 * 2 * heads * size * 4, 300)  # layers, keys and values, float32
    assert difference_to_plain(model) < 1e-5


@pytest.mark.parametrize("family", CONFIGS)
def test_half_precision_is_well_within_the_tolerance(family):
    assert difference_to_plain(make(family).to(torch.bfloat16)) < TOLERANCE / 2


def test_recurrent_layers_and_encoders_are_left_to_transformers():
    mamba = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(UnfitError):
        fit_of(AutoModelForCausalLM.from_config(mamba), 100)
    t5 = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    with pytest.raises(UnfitError):
        fit_of(T5ForConditionalGeneration(t5), 100)


def test_rope_that_changes_with_the_batch_is_left_to_transformers():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    model = make("llama", rope_parameters=rope)
    assert fit_of(model, 4096).vocabulary == 300  # as far as it does not change
    with pytest.raises(UnfitError, match="RoPE"):
        fit_of(model, 4097)


class CountsItself(LlamaForCausalLM):
    """Custom code that thinks it knows the positions better."""

    def forward(self, *args, position_ids=None, **kwargs):
        return super().forward(*args, position_ids=None, **kwargs)


def test_a_model_that_computes_something_else_is_found_out():
    torch.manual_seed(0)
    model = CountsItself(CONFIGS["llama"]()).eval()
    with pytest.raises(UnfitError, match="differ from those of plain forward passes"):
        fit_of(model, 100)
    assert model.config._attn_implementation != "slots"


class Refuses(LlamaForCausalLM):
    """Custom code that fails on real numbers alone."""

    def forward(self, *args, slots=None, **kwargs):
        if slots is not None:
            raise RuntimeError("no such devices")
        return super().forward(*args, **kwargs)


def test_a_model_that_fails_over_slots_is_left_to_transformers():
    with pytest.raises(UnfitError, match="no such devices"):
        fit_of(Refuses(CONFIGS["llama"]()).eval(), 100)


def test_weights_elsewhere_are_named():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    with pytest.raises(UnfitError, match="its weights are on meta"):
        fit_of(model, 100)
    assert SIZES["num_hidden_layers"] == 4
