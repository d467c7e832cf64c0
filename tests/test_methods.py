"""Ways to fine-tune, attention and checkpointing choices of the host: the same numbers, and checkpoints that it can use."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.runs import run_host


TOKENS = torch.arange(10, 40)[None]


def numbers(logs: list[dict]) -> list[float]:
    return [log[key] for log in logs for key in ("loss", "grad_norm")]


@pytest.mark.parametrize(
    "method",
    [
        {"finetuning_type": "lora", "use_dora": True},
        {"finetuning_type": "lora", "use_rslora": True, "lora_rank": 4, "additional_target": "embed_tokens"},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    ],
)
def test_ways_to_fine_tune_equal_the_hosts_dpo_stage(method, train, tmp_path):
    check_equal_to_the_hosts_dpo_stage(method, train, tmp_path)


def check_equal_to_the_hosts_dpo_stage(method: dict, train, folder: Path) -> list[float]:
    """Without the long view, on the short one; returns the numbers."""
    ours = train(solopo_alpha=0, output_dir=str(folder / "ours"), **method)
    host = train(stage="dpo", dataset="pairs_short", output_dir=str(folder / "host"), **method)
    assert numbers(ours) == pytest.approx(numbers(host), rel=1e-4)
    return numbers(ours)


def test_quantized_lora_equals_the_hosts_dpo_stage(train, tmp_path):
    """QLoRA, where bitsandbytes is installed; and it is no LoRA on whole weights."""
    pytest.importorskip("bitsandbytes")
    lora = {"finetuning_type": "lora"}
    quantized = check_equal_to_the_hosts_dpo_stage({**lora, "quantization_bit": 4}, train, tmp_path)
    whole = train(solopo_alpha=0, output_dir=str(tmp_path / "whole"), **lora)
    assert quantized != pytest.approx(numbers(whole), rel=1e-3)


def test_attention_and_checkpointing_choices_change_nothing(train, tmp_path):
    choices = [
        {},
        {"flash_attn": "sdpa"},
        {"flash_attn": "disabled"},
        {"flash_attn": "fa2"},  # not installed on a machine without a GPU: the host warns and goes on
        {"disable_gradient_checkpointing": True},
        {"use_reentrant_gc": False},
    ]
    runs = [
        numbers(train(max_steps=2, output_dir=str(tmp_path / str(i)), **choice)) for i, choice in enumerate(choices)
    ]
    for run in runs[1:]:
        assert run == pytest.approx(runs[0], rel=1e-5)


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
def test_the_host_exports_and_chats_with_a_checkpoint(finetuning_type, arguments, tmp_path, tiny_qwen2):
    from llamafactory.chat import ChatModel
    from llamafactory.train.tuner import export_model
    from peft import PeftModel

    args = arguments(
        finetuning_type=finetuning_type, save_strategy="steps", save_steps=2, max_steps=2, learning_rate=1e-2
    )
    run_host(args)
    checkpoint = str(Path(args["output_dir"], "checkpoint-2"))
    if finetuning_type == "full":
        trained, where = AutoModelForCausalLM.from_pretrained(checkpoint), {"model_name_or_path": checkpoint}
    else:
        trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_qwen2), checkpoint)
        where = {"model_name_or_path": tiny_qwen2, "adapter_name_or_path": checkpoint}

    exported = str(tmp_path / "exported")
    export_model({**where, "template": "qwen", "export_dir": exported, "infer_dtype": "float32"})
    untrained = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    with torch.no_grad():
        logits = [AutoModelForCausalLM.from_pretrained(exported)(TOKENS).logits, trained.eval()(TOKENS).logits]
        assert not torch.allclose(logits[0], untrained(TOKENS).logits, atol=1e-2)
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)

    question = [{"role": "user", "content": "amber basin"}]
    say = {"template": "qwen", "infer_dtype": "float32", "do_sample": False, "max_new_tokens": 8}
    answers = [ChatModel({**say, **model}).chat(question)[0] for model in (where, {"model_name_or_path": exported})]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    start = prompt["input_ids"].shape[1]
    said, untrained_said = (
        model.generate(**prompt, do_sample=False, max_new_tokens=8)[0, start:].tolist()
        for model in (trained, untrained)
    )
    assert said != untrained_said
    for answer in answers:
        assert answer.response_text == tokenizer.decode(said, skip_special_tokens=True)
        assert answer.response_length == len(said)
