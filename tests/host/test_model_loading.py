"""`rope_scaling` beyond the model's window trains, `infer_dtype` is followed, what cannot be loaded is refused first."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers

from solopo_llamafactory.host.chat import load_chat_model, unload
from solopo_llamafactory.host.model_loading import inference_dtype, refuse_unloadable, working_rope_scaling
from tests.helpers.runs import run_host


WINDOW = 64
FURTHER = {
    "linear": {},
    "yarn": {"original_max_position_embeddings": WINDOW},
    "llama3": {"original_max_position_embeddings": WINDOW, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}


@pytest.fixture
def change_config(tmp_path, tiny_qwen2):
    """Makes a copy of the tiny model with a changed config and returns its folder."""

    def change(name: str, **changes) -> str:
        path = shutil.copytree(tiny_qwen2, tmp_path / name)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | changes))
        return str(path)

    return change


def configure(config, rope_scaling: str, model_max_length: int | None) -> None:
    from llamafactory.model import patcher

    with working_rope_scaling():
        arguments = SimpleNamespace(rope_scaling=rope_scaling, model_max_length=model_max_length)
        patcher.configure_rope(config, arguments)


@pytest.mark.parametrize("rope_type", FURTHER)
def test_it_trains_as_the_same_rope_in_the_models_config(rope_type, change_config, train, tmp_path):
    """8 times a window of 64; the base frequency of the model's own is kept."""
    plain = {"rope_type": "default", "rope_theta": 5e3}
    scaled = {"rope_type": rope_type, "rope_theta": 5e3, "factor": 8.0, **FURTHER[rope_type]}
    short = change_config("short", max_position_embeddings=WINDOW, rope_parameters=plain)
    long = change_config("long", max_position_embeddings=8 * WINDOW, rope_parameters=scaled)
    by_argument = train(model_name_or_path=short, rope_scaling=rope_type, output_dir=str(tmp_path / "argument"))
    by_config = train(model_name_or_path=long, output_dir=str(tmp_path / "config"))
    unscaled = train(model_name_or_path=short, output_dir=str(tmp_path / "unscaled"))
    assert [log["loss"] for log in by_argument] == [log["loss"] for log in by_config]
    assert by_argument[0]["loss"] != unscaled[0]["loss"]
    saved = transformers.AutoConfig.from_pretrained(str(tmp_path / "argument"))
    assert saved.max_position_embeddings == 8 * WINDOW
    assert saved.rope_parameters == scaled


def test_a_multimodal_models_language_part_is_scaled():
    text_config = {"max_position_embeddings": WINDOW, "hidden_size": 32, "num_attention_heads": 4}
    config = transformers.LlavaConfig(text_config={"model_type": "llama", **text_config})
    configure(config, "yarn", 200)
    assert config.text_config.max_position_embeddings == 4 * WINDOW
    assert config.text_config.rope_parameters["factor"] == 4.0


def test_dynamic_keeps_the_window_that_its_frequencies_are_computed_from():
    config = transformers.LlamaConfig(max_position_embeddings=WINDOW)
    configure(config, "dynamic", None)
    assert config.max_position_embeddings == WINDOW
    assert config.rope_parameters["factor"] == 2.0


def test_several_ropes_in_one_model_are_refused_by_name():
    config = transformers.Gemma3TextConfig(max_position_embeddings=WINDOW)
    with pytest.raises(ValueError, match="sliding_attention or full_attention|full_attention or sliding_attention"):
        configure(config, "yarn", 200)


@pytest.mark.parametrize("name", ["GPT2", "Bloom", "Mamba"])
def test_a_model_without_rope_is_left_to_the_host(name):
    """Which says that it has none."""
    config = getattr(transformers, f"{name}Config")()
    before = config.to_dict()
    configure(config, "yarn", 10**6)
    assert config.to_dict() == before


def test_gpt_oss_is_refused_before_anything_is_tokenised(change_config, arguments, monkeypatch):
    path = change_config("gpt_oss", model_type="gpt_oss")
    monkeypatch.setattr(
        "solopo_llamafactory.train.workflow.load_data", lambda *args, **kwargs: pytest.fail("too late")
    )
    with pytest.raises(ValueError, match="gpt-oss cannot be trained here.*choose another model"):
        run_host(arguments(model_name_or_path=path, template="gpt_oss"))


def test_gpt_oss_is_not_refused_where_the_host_can_load_it(monkeypatch):
    from transformers.integrations import hub_kernels

    monkeypatch.setattr(hub_kernels, "load_and_register_kernel", None, raising=False)
    refuse_unloadable(SimpleNamespace(model_type="gpt_oss"))


@pytest.mark.parametrize(
    "saved, infer_dtype, on_gpu, expected",
    [
        ("float32", "auto", True, "float32"),
        ("float16", "auto", True, "float16"),
        ("bfloat16", "float32", True, "float32"),
        ("float32", "float16", True, "float16"),
        ("bfloat16", "bfloat16", False, "float32"),
    ],
)
def test_a_model_answers_in_the_precision_that_was_asked_for(
    saved, infer_dtype, on_gpu, expected, tiny_qwen2, tmp_path, monkeypatch
):
    """The frequencies of its positions stay in float32: rounded, they would be wrong far into a long context."""
    from solopo_llamafactory.host import model_loading

    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=getattr(torch, saved))
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_qwen2).save_pretrained(tmp_path)
    monkeypatch.setattr(
        model_loading, "inference_dtype", lambda saved, asked, _: inference_dtype(saved, asked, on_gpu)
    )
    loaded = load_chat_model({"model_name_or_path": str(tmp_path), "template": "qwen", "infer_dtype": infer_dtype})
    model = loaded.engine.model
    assert {parameter.dtype for parameter in model.parameters()} == {model.dtype} == {getattr(torch, expected)}
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    unload(loaded)
