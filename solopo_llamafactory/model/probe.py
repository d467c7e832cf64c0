"""Whether a model can take a packed row, found by running it rather than by its name.

The model's class is built again on torch's meta device, where a forward pass costs neither memory nor arithmetic, with
an attention function that only records how it is called.
"""

import copy
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ..data.packing import RowLayout
from .attention import BACKENDS, PREFIX, register, whole_row


PROBE_LENGTH, TRIAL_LOGITS = 8, 3
# Keyword arguments of transformers' attention functions that change nothing for a packed row.
HARMLESS = {"position_ids", "position_embeddings", "cache_position", "use_cache", "output_attentions", "is_causal"}
HARMLESS |= {"output_hidden_states", "return_dict", "past_key_value", "past_key_values", "sliding_window"}
HARMLESS |= {"output_router_logits", "scaling", "dropout"}


def below_adapter(model) -> PreTrainedModel:
    """Return the model itself, or the one that a PEFT adapter wraps."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_part(model) -> nn.Module:
    """Return the layers that read text: the whole model, or the language model of a multimodal one."""
    model = below_adapter(model)
    return model.get_decoder() if hasattr(model, "get_decoder") else model


@dataclass(frozen=True)
class Probe:
    """What a model's trial told: why it cannot take a packed row (None when it can), and the layer that answers select at.

    `last_layer` is the layer whose output the model returns as its logits; None when the model changes that output (scales
    or caps it), or when the trial failed.
    """

    obstacle: str | None
    last_layer: nn.Module | None


def probe(model: PreTrainedModel, max_length: int) -> Probe:
    """Look at a model by one trial forward pass of its class.

    Args:
        model: as loaded, before any wrapping.
        max_length: tokens of the longest sequence to come.

    Raises:
        ValueError: when sequences of different length cannot even share a batch (see `check_rope`).
    """
    check_rope(model.config, max_length)
    try:
        trial = run_on_meta(model)
    except Exception as err:  # whatever a foreign model raises here, the padded batch still works
        reason = str(err).splitlines()[0] if str(err) else ""
        failure = f"a trial forward pass failed ({type(err).__name__}: {reason})"
        return Probe(class_obstacle(model) or failure, None)
    obstacle = class_obstacle(model) or trial_obstacle(trial, model) or packing_obstacle(trial, max_length)
    return Probe(obstacle, model.get_output_embeddings() if trial.logits is trial.output_layer_output else None)


def use_packed_attention(models: Iterable[PreTrainedModel]) -> None:
    """Switch the attention of models without an obstacle to packed rows."""
    configs = {id(model.config.get_text_config()): model.config.get_text_config() for model in models}
    register()
    for config in configs.values():
        config._attn_implementation = PREFIX + config._attn_implementation


def check_rope(config, max_length: int) -> None:
    """Refuse RoPE types whose frequencies transformers picks by the largest position of the whole batch."""
    config = config.get_text_config()
    for parameters in _rope_parameters(config):
        rope_type = parameters.get("rope_type")
        if rope_type == "longrope":
            limit = parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        elif rope_type == "dynamic":
            limit = config.max_position_embeddings
        else:
            continue
        if max_length > limit:
            raise ValueError(
                f"The model's RoPE type `{rope_type}` changes its frequencies beyond {limit} tokens for all sequences "
                f"of a batch, so short and long contexts cannot share one: set `cutoff_len` to at most {limit}, or "
                "use a fixed type such as `rope_scaling: yarn`."
            )


def _rope_parameters(config) -> list[dict]:
    """Return the model's RoPE settings, one dict for each kind of its layers."""
    rope = getattr(config, "rope_parameters", None) or {}
    return [rope, *(value for value in rope.values() if isinstance(value, dict))]


def class_obstacle(model: PreTrainedModel) -> str | None:
    """Why a model of this class and configuration cannot take a packed row, as far as it shows without a trial."""
    implementation = model.config.get_text_config()._attn_implementation
    if implementation not in BACKENDS:
        return f"its attention `{implementation}` has no version for packed rows"
    if "logits_to_keep" not in inspect.signature(type(model).forward).parameters:
        return f"{type(model).__name__}.forward takes no `logits_to_keep`"
    if getattr(model, "_is_stateful", False):  # transformers' mark of recurrent layers
        return "some of its layers carry a state along the row, which would run from one sequence into the next"
    return None


def packing_obstacle(trial: "Trial", max_length: int) -> str | None:
    """Why packed rows cannot take the place of a trial's attention: a window, or an argument that they do not know."""
    for call in trial.attention_calls:
        for size in (getattr(call["attention_mask"], "local_size", None), call.get("sliding_window")):
            if size is not None and size < max_length:
                return f"its attention sees {size} tokens at a time, fewer than the longest sequence of {max_length}"
        if extra := further_argument(call, HARMLESS):
            return f"its attention uses `{extra}`, which packed rows do not"
    return None


def trial_obstacle(trial: "Trial", model: PreTrainedModel) -> str | None:
    """Why the model's attention cannot be replaced by another function, as far as its trial tells."""
    if trial.logits.shape[1] != TRIAL_LOGITS:
        return "its forward ignores `logits_to_keep` as a tensor of positions"
    num_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if len(trial.attention_calls) != num_layers:
        return f"{len(trial.attention_calls)} of its {num_layers} layers use transformers' attention interface"
    for call in trial.attention_calls:
        if call.get("packed_row") is not trial.layout:
            return "its layers do not pass keyword arguments on to the attention"
        if call["attention_mask"] is not None and not hasattr(call["attention_mask"], "local_size"):
            return "its layers make an attention mask of their own"
    return None


def further_argument(call: dict, known: set[str]) -> str | None:
    """Return the first argument of a call of attention that says something and is not known."""
    known = known | {"packed_row", "attention_mask"}
    return next(
        (name for name, value in call.items() if value is not None and value is not False and name not in known), None
    )


@dataclass
class Trial:
    """What a forward pass did: the arguments of each call of attention, and the sizes of its keys and values."""

    layout: RowLayout
    attention_calls: list[dict]
    states: list[tuple[torch.Size, torch.Size]]
    logits: Tensor | None = None
    output_layer_output: Tensor | None = None


def run_on_meta(model: PreTrainedModel) -> Trial:
    """A forward pass of the model's class on the meta device; a foreign model may raise anything."""
    trial = Trial(layout=whole_row(PROBE_LENGTH), attention_calls=[], states=[])

    def record(module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs):
        trial.attention_calls.append({"attention_mask": attention_mask, **kwargs})
        trial.states.append((key.shape, value.shape))
        batch, heads, length, _ = query.shape
        return query.new_empty(batch, length, heads, value.shape[-1]), None

    def mark_mask(*args, local_size: int | None = None, **kwargs) -> Tensor:
        mask = torch.empty(1, 1, PROBE_LENGTH, PROBE_LENGTH, device="meta")
        mask.local_size = local_size  # of sliding windows and attention chunks
        return mask

    AttentionInterface.register("packed_probe", record)
    AttentionMaskInterface.register("packed_probe", mark_mask)
    config = copy.deepcopy(model.config)
    config.get_text_config()._attn_implementation = "packed_probe"
    for parameters in _rope_parameters(config.get_text_config()):
        if parameters.get("rope_type") in ("longrope", "dynamic"):  # look at positions, and meta tensors hold none
            parameters["rope_type"] = "default"
    with torch.device("meta"), torch.no_grad():
        probe = _unpatched_class(model)(config).to(torch.bfloat16).eval()  # grouped expert kernels take nothing else
        if probe.get_output_embeddings() is not None:
            probe.get_output_embeddings().register_forward_hook(
                lambda module, args, output: setattr(trial, "output_layer_output", output)
            )
        tokens = torch.zeros(1, PROBE_LENGTH, dtype=torch.long)
        trial.logits = probe(
            input_ids=tokens,
            position_ids=tokens,
            attention_mask=torch.ones_like(tokens),  # without one, transformers looks for packing in the values
            logits_to_keep=torch.zeros(TRIAL_LOGITS, dtype=torch.long),
            use_cache=False,
            packed_row=trial.layout,
        ).logits
    return trial


def _unpatched_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """Return the model's class; under Liger, whose kernels need a GPU, the same class from a fresh copy of its module.

    Liger replaces names in the modeling module (norms, MLP, rotary embedding) and leaves attention alone.
    """
    if not any(type(module).__module__.startswith("liger_kernel") for module in model.modules()):
        return type(model)
    patched = sys.modules[type(model).__module__]
    spec = importlib.util.spec_from_file_location(f"{patched.__name__}_unpatched", patched.__file__)
    fresh = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = fresh  # its classes look their own module up
    try:
        spec.loader.exec_module(fresh)
    finally:
        del sys.modules[spec.name]
    return getattr(fresh, type(model).__name__)
