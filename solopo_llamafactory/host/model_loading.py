"""What the host's model loading needs under transformers 5: mends of `rope_scaling` and `infer_dtype`, and a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from llamafactory.model import loader, patcher


@contextmanager
def working_rope_scaling() -> Iterator[None]:
    """While models load: the host's `configure_rope` writes a float where transformers 5 wants an int.

    It also drops the base frequency, looks for the window in the outer config of multimodal models, and enlarges the
    window that transformers computes `dynamic` frequencies from, which leaves them as they were.
    """
    original = patcher.configure_rope

    def configure_rope(config: Any, model_args: Any) -> None:
        text = config.get_text_config()
        if model_args.rope_scaling is None or not hasattr(text, "rope_scaling"):  # the host warns of the latter
            return original(text, model_args)
        known = dict(text.rope_scaling or {})
        if any(isinstance(value, dict) for value in known.values()):
            raise ValueError(
                f"`rope_scaling: {_name(model_args)}` does not say which of the model's kinds of layers it is for, "
                f"{' or '.join(known)}: remove it, and write `rope_parameters` into the model's config.json."
            )
        scaled = SimpleNamespace(rope_scaling=known, max_position_embeddings=text.max_position_embeddings)
        original(scaled, model_args)
        text.rope_scaling = {**known, **scaled.rope_scaling}
        if text.rope_scaling.get("rope_type") != "dynamic":
            text.max_position_embeddings = int(scaled.max_position_embeddings)

    patcher.configure_rope = configure_rope
    try:
        yield
    finally:
        patcher.configure_rope = original


@contextmanager
def working_infer_dtype() -> Iterator[None]:
    """While models load that are to answer: the host keeps a checkpoint's precision, whatever `infer_dtype` says."""
    original = loader.load_config

    def load_config(model_args: Any) -> Any:
        config = original(model_args)
        if getattr(config, "quantization_config", None) is None:
            on_gpu = torch.cuda.is_available()
            config.dtype = inference_dtype(config.dtype, model_args.infer_dtype, on_gpu)
        return config

    loader.load_config = load_config
    try:
        yield
    finally:
        loader.load_config = original


def inference_dtype(saved: torch.dtype | None, infer_dtype: str, on_gpu: bool) -> torch.dtype | None:
    """The precision to load a model in: half precision is slow on most processors, and `auto` is the file's own."""
    if not on_gpu:
        return torch.float32
    return saved if infer_dtype == "auto" else getattr(torch, infer_dtype)


def _name(model_args: Any) -> str:
    return getattr(model_args.rope_scaling, "value", model_args.rope_scaling)


def refuse_unloadable(config: Any) -> None:
    """Raise ValueError for a model that the host cannot load, before anything else is done for it.

    Args:
        config: the model's transformers config.
    """
    from transformers.integrations import hub_kernels

    if config.model_type == "gpt_oss" and not hasattr(hub_kernels, "load_and_register_kernel"):
        raise ValueError(
            f"gpt-oss cannot be trained here: LLaMA-Factory {version('llamafactory')} loads it through "
            f"`load_and_register_kernel` of transformers, which version {version('transformers')} does not have; choose "
            "another model."
        )
