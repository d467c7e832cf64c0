"""Arguments that LLaMA-Factory does not know, with what to write here instead.

People bring recipes from other trainers, from forks of the host and from its earlier versions.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any


ELSEWHERE = {
    # TRL
    "beta": "write `pref_beta`",
    "loss_type": "write `pref_loss`",
    "gamma": "write `simpo_gamma`",
    "label_smoothing": "write `dpo_label_smoothing`",
    "rpo_alpha": "write `pref_ftx`",
    "max_length": "write `cutoff_len`",
    "max_seq_length": "write `cutoff_len`",
    "max_prompt_length": "write `cutoff_len`, for prompt and answer together",
    "max_completion_length": "write `cutoff_len`, for prompt and answer together",
    "precompute_ref_log_probs": "write `solopo_precompute_ref`",
    "padding_free": "remove it, the stage computes no padding",
    "use_liger_loss": "write `enable_liger_kernel`",
    "attn_implementation": "write `flash_attn: auto`, `sdpa`, `fa2` or `disabled`",
    "torch_dtype": "write `bf16: true`",
    "dtype": "write `bf16: true`",
    "dataset_name": "write `dataset`, a name in dataset_info.json",
    "use_peft": "write `finetuning_type: lora`",
    "lora_r": "write `lora_rank`",
    "lora_target_modules": "write `lora_target`",
    "load_in_4bit": "write `quantization_bit: 4`",
    "load_in_8bit": "write `quantization_bit: 8`",
    "reference_free": "write `pref_loss: orpo` or `simpo`, which have no reference",
    "cpo_alpha": "write `pref_ftx`",
    "simpo_beta": "write `pref_beta`",
    "max_len": "write `cutoff_len`",
    "dataset_num_proc": "write `preprocessing_num_workers`",
    # Axolotl
    "base_model": "write `model_name_or_path`",
    "datasets": "write `dataset`, names in dataset_info.json",
    "sequence_len": "write `cutoff_len`",
    "sample_packing": "remove it, the stage packs a device batch into one row by itself",
    "micro_batch_size": "write `per_device_train_batch_size`",
    "num_epochs": "write `num_train_epochs`",
    "val_set_size": "write `val_size`",
    "adapter": "write `finetuning_type: lora`, or `adapter_name_or_path` for one that exists",
    "lora_target_linear": "write `lora_target: all`",
    "wandb_project": "write `report_to: wandb`, and set the environment variable WANDB_PROJECT",
    "chat_template": "write `template`",
    # short names from anywhere
    "lr": "write `learning_rate`",
    "epochs": "write `num_train_epochs`",
    "batch_size": "write `per_device_train_batch_size`",
    "per_device_batch_size": "write `per_device_train_batch_size`",
    "warmup": "write `warmup_steps`",
    "model_path": "write `model_name_or_path`",
    "model_name": "write `model_name_or_path`",
    "data_path": "write `dataset`, a name in dataset_info.json",
    "dataset_path": "write `dataset`, a name in dataset_info.json",
    "system": "write `default_system`",
    "system_prompt": "write `default_system`",
    "use_wandb": "write `report_to: wandb`",
    "deepspeed_config": "write `deepspeed`",
    "ds_config": "write `deepspeed`",
    # ms-swift
    "model": "write `model_name_or_path`",
    "train_type": "write `finetuning_type`",
    "tuner_type": "write `finetuning_type`",
    "rlhf_type": "write `stage: solopo` and `pref_loss`",
    "target_modules": "write `lora_target`",
    "attn_impl": "write `flash_attn: auto`, `sdpa`, `fa2` or `disabled`",
    "val_dataset": "write `eval_dataset`",
    "split_dataset_ratio": "write `val_size`",
    "truncation_strategy": "write `solopo_overlong: drop` or `error`, nothing is cut",
    # forks and earlier versions of the host
    "sequence_parallel_size": "remove it, each GPU computes rows of its own",
    "sequence_parallel_mode": "remove it, each GPU computes rows of its own",
    "dpo_beta": "write `pref_beta`",
    "orpo_beta": "write `pref_beta`",
    "dpo_loss": "write `pref_loss`",
    "dpo_ftx": "write `pref_ftx`",
    "max_source_length": "write `cutoff_len`, for prompt and answer together",
    "max_target_length": "write `cutoff_len`, for prompt and answer together",
    "checkpoint_dir": "write `adapter_name_or_path`",
    # earlier versions of transformers
    "evaluation_strategy": "write `eval_strategy`",
    "no_cuda": "write `use_cpu`",
    "group_by_length": "remove it, a packed row has no padding to save",
    "save_safetensors": "remove it, checkpoints are always in this format",
    # our own, as one might guess them
    "solopo_beta": "write `pref_beta`",
    "solopo_loss": "write `pref_loss`",
    "solopo_gamma": "write `simpo_gamma`",
    "pref_alpha": "write `solopo_alpha`",
    "dpo_alpha": "write `solopo_alpha`",
    # the paper's words
    "alpha": "write `solopo_alpha`",
    "solo_alpha": "write `solopo_alpha`",
    "solopo_stop_grad": "write `solopo_gradient: long` for true, and `solopo_gradient: both` for false",
    "short_prompt": "name it in dataset_info.json, under `columns`",
    "long_prompt": "name it in dataset_info.json, under `columns`",
}


# Arguments of the host's generation which other trainers mean otherwise, and which training does not read.
WITHOUT_EFFECT = {"max_length"}


def refuse_unknown_keys(args: dict[str, Any] | list[str], classes: Iterable[type]) -> None:
    """Raise ValueError, in one sentence, for arguments that are fields of none of the host's dataclasses.

    Args:
        args: the content of a YAML file, or the words of a command line.
        classes: the dataclasses that the host parses.
    """
    known = {field.name for each in classes for field in dataclasses.fields(each)} - WITHOUT_EFFECT
    unknown = [key for key in _keys(args) if key not in known]
    if not isinstance(args, dict):  # argparse takes beginnings of names, and `--no_...` for some switches
        unknown = [key for key in unknown if not any(name.startswith(key.removeprefix("no_")) for name in known)]
    if unknown:
        raise ValueError(
            f"LLaMA-Factory {version('llamafactory')} and `stage: solopo` have no argument "
            f"{', none '.join(f'`{key}` ({_advice(key, known)})' for key in unknown)}."
        )


def _keys(args: dict[str, Any] | list[str]) -> list[str]:
    if isinstance(args, dict):
        return [str(key) for key in args]
    return [word[2:].partition("=")[0].replace("-", "_") for word in args if word.startswith("--")]


def _advice(key: str, known: set[str]) -> str:
    if key.startswith("--"):
        return "behind a YAML file write NAME=VALUE, without dashes"
    if key in ELSEWHERE:
        return ELSEWHERE[key]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75) or difflib.get_close_matches(
        f"solopo_{key}", known, n=1, cutoff=0.85
    )
    return f"did you mean `{close[0]}`?" if close else "remove it, or look in the README for what it did elsewhere"
