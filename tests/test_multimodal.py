"""Checkpoints whose language model is one part of several train on text as plain language models do."""

import pytest
import torch
import transformers

from solopo_llamafactory.data.sequences import sequences_of
from solopo_llamafactory.model.probe import probe, text_part, use_packed_attention
from tests.model.test_attention import assert_same, make_examples, packed_logps, padded_logps, plain_logps


TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
QWEN_VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
LOCAL = {"layer_types": ["sliding_attention", "full_attention"]}
GEMMA_4 = {"hidden_size_per_layer_input": 0, "global_head_dim": 8, "num_kv_shared_layers": 0}
LLAMA_4 = {"intermediate_size_mlp": 64, "num_local_experts": 2}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2}
LINEAR |= {"linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}

# Class, change of the text shape, vision tower, and whether it takes a packed row. A window of 128 is longer than every
# sequence, one of 16 cuts the long ones.
FAMILIES = [
    ("Gemma3", {"sliding_window": 128, **LOCAL}, VISION, True),
    ("Gemma3", {"sliding_window": 16, **LOCAL}, VISION, False),
    (
        "Gemma4",
        {"sliding_window": 128, **LOCAL, **GEMMA_4},
        {**VISION, "num_key_value_heads": 2, "head_dim": 16},
        True,
    ),
    ("Mistral3", {"model_type": "mistral", "sliding_window": None}, {"model_type": "pixtral", **VISION}, True),
    ("Mistral3", {"model_type": "ministral3"}, {"model_type": "pixtral", **VISION}, True),
    ("Qwen2VL", MROPE, {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 32}, True),
    ("Qwen2_5_VL", MROPE, QWEN_VISION, True),
    ("Qwen3VL", MROPE, {**QWEN_VISION, "deepstack_visual_indexes": [0]}, True),
    ("Qwen3_5", LINEAR, QWEN_VISION, False),
    ("Glm4v", MROPE, QWEN_VISION, True),
    (
        "Llama4",
        {"attention_chunk_size": 128, **LLAMA_4},
        {**VISION, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
        True,
    ),
    (
        "Llama4",
        {"attention_chunk_size": 16, **LLAMA_4},
        {**VISION, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
        False,
    ),
    ("Llava", {"model_type": "llama"}, {"model_type": "clip_vision_model", **VISION}, True),
    (
        "InternVL",
        {"model_type": "qwen2"},
        {"model_type": "internvl_vision", **VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        True,
    ),
]


def make_model(family: str, text: dict, vision: dict, **changes):
    """A tiny model, of which the language part is trained, as in the host."""
    further = {"audio_config": None} if family == "Gemma4" else {}
    config_class = getattr(transformers, f"{family}Config")
    config = config_class(text_config={**TEXT, **text, **changes}, vision_config=vision, **further)
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForConditionalGeneration")._from_config(config, attn_implementation="sdpa")
    model.requires_grad_(False)
    text_part(model).requires_grad_(True)
    return model.eval()


def trained_gradients(model, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (logps * torch.arange(1, logps.numel() + 1).view(logps.shape)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family, text, vision, packs", FAMILIES)
def test_packed_where_right_and_padded_equals_plain_forwards(family, text, vision, packs, monkeypatch):
    monkeypatch.setattr("tests.model.test_attention.gradients", trained_gradients)
    model = make_model(family, text, vision)
    examples, sequences = make_examples(2), sequences_of("both")
    logps = plain_logps(model, examples, sequences)
    expected = logps, trained_gradients(model, logps)
    for mode in (model.eval, model.train):
        mode()
        assert_same(model, padded_logps, examples, sequences, expected)
    found = probe(model, max_length=100)
    assert (found.obstacle is None) is packs
    if packs:
        assert found.last_layer is model.get_output_embeddings()
        use_packed_attention([model])
        for mode in (model.eval, model.train):
            mode()
            assert_same(model, packed_logps, examples, sequences, expected)


def test_rope_of_the_language_model_is_looked_at():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = make_model("Llava", {"model_type": "llama", "rope_parameters": rope}, FAMILIES[-2][2])
    with pytest.raises(ValueError, match="`dynamic`.*at most 512"):
        probe(model, max_length=513)


@pytest.fixture
def gemma3(tmp_path, tiny_qwen2) -> str:
    """Folder of a tiny multimodal model, with a tokenizer that is not its own."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen2)
    path = str(tmp_path / "gemma3")
    model = make_model("Gemma3", {"sliding_window": 600, **LOCAL}, VISION, vocab_size=len(tokenizer))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "method", [{"finetuning_type": "full"}, {"finetuning_type": "lora", "pref_loss": "sigmoid", "learning_rate": 1e-2}]
)
def test_it_trains_as_in_the_hosts_dpo_stage(method, gemma3, train, tmp_path, caplog):
    common = {"model_name_or_path": gemma3, **method}
    ours = train(solopo_alpha=0, output_dir=str(tmp_path / "ours"), **common)
    host = train(stage="dpo", dataset="pairs_short", output_dir=str(tmp_path / "host"), **common)
    for key in ("loss", "grad_norm"):
        assert [log[key] for log in ours] == pytest.approx([log[key] for log in host], rel=1e-4)


def test_only_layers_of_the_language_model_are_checkpointed(gemma3, train, monkeypatch):
    seen = []

    class Fixed:
        def __init__(self, layers, number):
            seen.append([type(layer).__name__ for layer in layers])

    monkeypatch.setattr("solopo_llamafactory.train.trainer.FixedCheckpointing", Fixed)
    with pytest.raises(AttributeError, match="micro_batch"):  # far enough
        train(model_name_or_path=gemma3)
    assert seen == [["Gemma3DecoderLayer"] * 2]
