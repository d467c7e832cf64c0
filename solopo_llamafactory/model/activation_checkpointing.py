"""How many layers recompute their activations in the backward pass: all, a number, or as few as memory demands.

The host checkpoints every layer. A layer that keeps its activations saves a second forward pass and costs memory until
its backward pass. The last layers keep theirs: they are also the first to be freed, before any layer is recomputed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..common.distributed import smallest
from ..host.log import logger


MARGIN = 1 / 32  # of the device's memory: left free, and once more each time that it proves too little


class Memory(NamedTuple):
    """A device's memory, in bytes."""

    total: int
    free: int  # for anyone
    reserved: int  # by this process's caching allocator
    allocated: int  # of what is reserved
    peak: int  # of `allocated` since `reset_peak`
    retries: int  # times that the allocator ran out and emptied its cache: the next step to an out-of-memory

    @property
    def available(self) -> int:
        return self.free + self.reserved - self.allocated


def read_memory() -> Memory | None:
    """The memory of this process's GPU, or None without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    stats = torch.cuda.memory_stats()
    return Memory(
        total=total,
        free=free,
        reserved=stats["reserved_bytes.all.current"],
        allocated=stats["allocated_bytes.all.current"],
        peak=stats["allocated_bytes.all.peak"],
        retries=stats["num_alloc_retries"],
    )


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def checkpointed_layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers that gradient checkpointing is on for, in the order of the forward pass."""
    layers = (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    return [layer for layer in layers if layer.gradient_checkpointing]


class FixedCheckpointing:
    """`solopo_checkpoint_layers: N`: the first N layers recompute."""

    def __init__(self, layers: list[GradientCheckpointingLayer], number: int) -> None:
        self.layers, self.number = layers, number
        if layers:
            logger.info_rank0(f"{min(number, len(layers))} of {len(layers)} layers recompute their activations.")
        elif number:
            logger.warning_rank0(
                "`solopo_checkpoint_layers` changes nothing, for no layer of this model checkpoints alone: remove it."
            )

    @contextmanager
    def micro_batch(self, tokens: int, optimizer_steps: int) -> Iterator[None]:
        recompute_first(self.layers, self.number)
        yield


class Measured(NamedTuple):
    """What a micro-batch of one row took, in bytes."""

    tokens: int
    layer_bytes: int  # that one layer keeps
    working_bytes: int  # that the forward and backward pass add at their peak when one layer keeps its activations

    def kept_layers(self, tokens: int, available: float) -> int:
        """How many layers can keep their activations for a row of so many tokens; at least one.

        Attention that keeps its weights grows with the square of the length, so a longer row counts with the square
        until one of its length is measured. A shorter one may have the same fixed parts (gradients).
        """
        growth = tokens / self.tokens
        growth = max(growth, growth**2)
        return 1 + max(0, int((available - self.working_bytes * max(1, growth)) // max(1, self.layer_bytes * growth)))


class CheckpointingByNeed:
    """`solopo_checkpoint_layers: auto`: measured on the first rows, then decided for each row by the memory there is.

    Until the first optimizer step is done, and for one micro-batch after it, all layers but the last recompute. (The
    last is the first that the backward pass needs: recomputing it would save nothing but during the loss.) That
    micro-batch is measured, when all that stays is allocated; a longer row that comes later is measured again. From then
    on as many layers keep their activations as fit. Should the allocator run out all the same, so that it empties its
    cache (which is slow, and precedes an out-of-memory), more is left free from then on.

    Args:
        layers: see `checkpointed_layers`.
        longest_row: tokens of the longest row to come.
        sharded: whether layers gather their weights from other processes (ZeRO-3, FSDP). Recomputing gathers them
            again, so all processes must recompute the same layers: decided once an optimizer step, for the longest
            row, and agreed on.
    """

    def __init__(self, layers: list[GradientCheckpointingLayer], longest_row: int, sharded: bool) -> None:
        self.layers, self.longest_row, self.sharded = layers, longest_row, sharded
        self.measured: Measured | None = None
        self.first_optimizer_step: int | None = None
        self.decided_step: int | None = None
        self.kept = 1
        self.margin = MARGIN
        self.retries = 0

    @contextmanager
    def micro_batch(self, tokens: int, optimizer_steps: int) -> Iterator[None]:
        """Around the forward and backward pass of a row of so many tokens, after so many optimizer steps."""
        if self.first_optimizer_step is None:
            self.first_optimizer_step = optimizer_steps
        before = read_memory()
        if self.measured is not None:
            self._decide(tokens, optimizer_steps, before)
        recompute_first(self.layers, len(self.layers) - self.kept)
        if optimizer_steps == self.first_optimizer_step or (self.measured and tokens <= self.measured.tokens):
            yield
            return

        reset_peak()
        sizes: list[int] = []
        with counting_kept_bytes(self.layers[-1], sizes):
            yield
        after, layer_bytes = read_memory(), sum(sizes)
        working_bytes = after.peak - before.allocated - (self.kept - 1) * layer_bytes
        if self.measured is None:
            self.retries = after.retries
            logger.info_rank0(
                f"Checkpointing by need: a layer keeps {layer_bytes / 2**30:.2f} GiB for a row of {tokens} tokens, and "
                f"{after.available / 2**30:.1f} GiB are available."
            )
        self.measured = Measured(tokens, layer_bytes, working_bytes)

    def _decide(self, tokens: int, optimizer_steps: int, memory: Memory) -> None:
        if self.sharded and optimizer_steps == self.decided_step:
            return
        if memory.retries > self.retries:
            self.retries, self.margin = memory.retries, self.margin + MARGIN
        available = memory.available - self.margin * memory.total
        kept = self.measured.kept_layers(self.longest_row if self.sharded else tokens, available)
        kept = min(kept, len(self.layers))
        if self.sharded:
            kept = smallest(kept)
            if kept != self.kept:
                logger.info_rank0(
                    f"{len(self.layers) - kept} of {len(self.layers)} layers recompute their activations."
                )
        self.kept, self.decided_step = kept, optimizer_steps


def recompute_first(layers: list[GradientCheckpointingLayer], number: int) -> None:
    """Let the first `number` layers recompute their activations and the others keep theirs."""
    for i, layer in enumerate(layers):
        layer.gradient_checkpointing = i < number


@contextmanager
def counting_kept_bytes(layer: nn.Module, sizes: list[int]) -> Iterator[None]:
    """Append the bytes that the layer keeps for its backward pass, weights not counted.

    Measured on what autograd saves: the allocator's figures would include weights that are gathered ahead.
    """
    hooks: list[torch.autograd.graph.saved_tensors_hooks] = []
    seen: set[int] = set()

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Looked up now: weights that are sharded between processes are here only while they are used.
        weights = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
        if storage.data_ptr() not in weights | seen:
            seen.add(storage.data_ptr())
            sizes.append(storage.nbytes())
        return tensor

    def start(*_) -> None:
        hooks.append(torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor))
        hooks[-1].__enter__()

    def stop(*_) -> None:
        hooks.pop().__exit__()

    handles = [layer.register_forward_pre_hook(start), layer.register_forward_hook(stop, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
