"""Which models take a packed row is found by running them; those that do not give the same results padded."""

import pytest
import torch
import transformers

from solopo_llamafactory.data.sequences import sequences_of
from solopo_llamafactory.model.probe import check_rope, probe
from solopo_llamafactory.train.assembly import switch_to_packed_rows
from tests.model.test_attention import (
    assert_same,
    gradients,
    make_examples,
    packed_logps,
    padded_logps,
    plain_logps,
    switch,
)


SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def make_model(name: str, attention: str = "sdpa", **change):
    config = getattr(transformers, f"{name}Config")(**SHAPE, **change)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.eval()


MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "rope_theta": 1e4}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 1e4,
}
LLAMA3_ROPE |= {"original_max_position_embeddings": 32}
LOCAL = {"layer_types": ["sliding_attention", "full_attention"]}

# Class, attention, change of the tiny shape, and None where a packed row is right or words from the reason why not.
# A window of 128 is longer than every sequence, one of 16 cuts the long ones.
ARCHITECTURES = [
    ("Qwen2", "sdpa", {}, None),
    ("Qwen2", "sdpa", {"use_sliding_window": True, "sliding_window": 16, **LOCAL}, "sees 16 tokens"),
    ("Qwen2", "flex_attention", {}, "flex_attention"),
    ("Qwen3", "sdpa", {"head_dim": 8}, None),
    ("Llama", "sdpa", {"rope_parameters": LLAMA3_ROPE}, None),
    ("Mistral", "sdpa", {"sliding_window": None}, None),
    ("Mistral", "sdpa", {"sliding_window": 128}, None),
    ("Mistral", "sdpa", {"sliding_window": 16}, "sees 16 tokens"),
    ("Gemma", "sdpa", {"head_dim": 8}, None),
    ("Gemma2", "eager", {"head_dim": 8, "sliding_window": 16, **LOCAL}, "sees 16 tokens"),
    ("Gemma2", "eager", {"head_dim": 8, "sliding_window": 128, **LOCAL}, "softcap"),
    ("Gemma3Text", "sdpa", {"head_dim": 8, "sliding_window": 16, **LOCAL}, "sees 16 tokens"),
    ("Gemma3Text", "sdpa", {"head_dim": 8, "sliding_window": 128, **LOCAL}, None),
    ("Phi3", "sdpa", {}, None),
    ("Phi3", "sdpa", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 128}, None),
    ("Llama", "sdpa", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, None),
    ("Qwen2Moe", "sdpa", {"shared_expert_intermediate_size": 16, **MOE}, None),
    ("Qwen3Moe", "sdpa", {"head_dim": 8, **MOE}, None),
]


@pytest.mark.parametrize("name, attention, change, words", ARCHITECTURES)
def test_packed_where_right_and_padded_where_not_equals_plain_forwards(name, attention, change, words):
    model = make_model(name, attention, **change)
    if attention == "flex_attention":  # has no CPU backward pass
        assert words in switch(model)
        return
    examples, sequences = make_examples(2), sequences_of("both")
    logps = plain_logps(model, examples, sequences)
    expected = logps, gradients(model, logps)
    obstacle = switch(model)
    if words is None:
        assert obstacle is None
        assert_same(model, packed_logps, examples, sequences, expected)
    else:
        assert words in obstacle
        assert model.config._attn_implementation == attention  # untouched
        assert_same(model, padded_logps, examples, sequences, expected)


def test_a_model_outside_the_attention_interface():
    config = transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)
    obstacle = probe(transformers.BloomForCausalLM(config), max_length=100).obstacle
    assert obstacle is not None


def test_attention_in_chunks_is_noticed():
    """Llama 4 cuts attention by its mask alone, which a packed row does not look at."""
    config = transformers.Llama4TextConfig(
        **SHAPE, intermediate_size_mlp=64, num_local_experts=2, head_dim=8, attention_chunk_size=16
    )
    model = transformers.Llama4ForCausalLM(config)
    assert probe(model, max_length=100).obstacle is not None


def test_all_models_are_switched_or_none():
    packable, not_packable = make_model("Qwen2"), make_model("Gemma2", "eager", head_dim=8)
    models = [packable, not_packable]
    assert not switch_to_packed_rows(models, [probe(each, max_length=100) for each in models])
    assert packable.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "rope, limit",
    [
        ({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, 64),
        (
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 32,
                "rope_theta": 1e4,
            },
            32,
        ),
    ],
)
def test_rope_that_depends_on_the_batch_is_refused_by_name(rope, limit):
    config = transformers.LlamaConfig(**SHAPE, max_position_embeddings=64, rope_parameters=rope)
    check_rope(config, max_length=limit)
    with pytest.raises(ValueError, match=f"`{rope['rope_type']}`.*at most {limit}"):
        check_rope(config, max_length=limit + 1)


def test_fixed_rope_types_pass():
    for rope_type in ("default", "linear", "yarn", "llama3"):
        rope = {"rope_type": rope_type, "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 32}
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if rope_type == "llama3" else {}
        config = transformers.LlamaConfig(**SHAPE, max_position_embeddings=64, rope_parameters=rope)
        check_rope(config, max_length=10_000)


def test_liger_models_are_tried_without_its_kernels(monkeypatch):
    """Liger's modules need a GPU even to look at; a stand-in that fails anywhere else is put where Liger puts its own."""
    from transformers.models.qwen2 import modeling_qwen2

    class LigerMLP(modeling_qwen2.Qwen2MLP):
        def forward(self, hidden):
            if hidden.device.type == "meta":
                raise RuntimeError("no kernel for meta tensors")
            return super().forward(hidden)

    LigerMLP.__module__ = "liger_kernel.transformers.swiglu"
    monkeypatch.setattr(modeling_qwen2, "Qwen2MLP", LigerMLP)
    model = make_model("Qwen2")
    examples, sequences = make_examples(2), sequences_of("both")
    expected = plain_logps(model, examples, sequences)
    assert probe(model, max_length=100).last_layer is model.lm_head
    assert switch(model) is None
    torch.testing.assert_close(packed_logps(model, examples, sequences), expected, rtol=1e-5, atol=1e-5)


def test_the_last_layer_is_one_whose_output_is_returned_as_it_is():
    for name in ("Qwen2", "Llama"):
        model = make_model(name)
        assert probe(model, max_length=100).last_layer is model.lm_head
    for model in (
        make_model("Granite", logits_scaling=2.0),
        make_model("Gemma2", head_dim=8, final_logit_softcapping=30.0),
    ):
        assert probe(model, max_length=100).last_layer is None


def test_a_model_that_scales_its_logits_still_packs():
    model = make_model("Granite", logits_scaling=2.0)
    assert probe(model, max_length=100).obstacle is None


LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "head_dim": 8}
LINEAR |= {"linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 16}


@pytest.mark.parametrize(
    "name, change",
    [
        ("Qwen3Next", {**LINEAR, **MOE, "shared_expert_intermediate_size": 16}),
        ("FalconH1", {"head_dim": 8, **MAMBA}),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
    ],
)
def test_a_padded_row_does_not_depend_on_the_rows_beside_it(name, change):
    """Layers with a state work in chunks of 64 tokens or more: padding on the left would move their borders."""
    model = make_model(name, **change)
    obstacle = probe(model, max_length=100).obstacle
    assert "state along the row" in obstacle or "layers use transformers' attention" in obstacle
    one, other = make_examples(2)
    one = one._replace(long_prompt_ids=list(range(10, 150)))
    other = other._replace(long_prompt_ids=list(range(20, 287)))
    sequences = sequences_of("both")
    logps = plain_logps(model, [one, other], sequences)
    assert_same(model, padded_logps, [one, other], sequences, (logps, gradients(model, logps)))
    alone = padded_logps(model, [one], sequences)
    torch.testing.assert_close(padded_logps(model, [one, other], sequences)[:1], alone, rtol=1e-6, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        equal = padded_logps(model, [one._replace(long_prompt_ids=one.short_prompt_ids), other], sequences)
    assert equal[0, 0] == equal[0, 2]  # computed once, so not one bit apart
