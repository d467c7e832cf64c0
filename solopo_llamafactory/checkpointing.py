"""How many layers recompute their activations in the backward pass: all, a number, or as few as memory demands.

The host checkpoints every layer. A layer that keeps its activations saves a second forward pass and costs memory until
its backward pass. The last layers keep theirs: they are also the first to be freed, before any layer is recomputed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .host.imports import logger


MARGIN = 1 / 32  # of the device's memory: left free by the plan, and taken away again each time it proves too tight


class Memory(NamedTuple):
    """A device's memory, in bytes."""

    total: int
    free: int  # for anyone: what the caching allocator has reserved is not free
    allocated: int
    peak: int  # of `allocated` since `reset_peak`
    retries: int  # times that the allocator ran out and emptied its cache: the next step to an out-of-memory


def read_memory() -> Memory | None:
    """The memory of this process's GPU, or None without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    stats = torch.cuda.memory_stats()
    allocated = "allocated_bytes.all"
    return Memory(total, free, stats[f"{allocated}.current"], stats[f"{allocated}.peak"], stats["num_alloc_retries"])


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
        recompute_first(layers, number)
        if layers:
            logger.info_rank0(f"{min(number, len(layers))} of {len(layers)} layers recompute their activations.")

    @contextmanager
    def micro_batch(self, tokens: int, optimizer_steps: int) -> Iterator[None]:
        yield


class CheckpointingByNeed:
    """`solopo_checkpoint_layers: auto`: measured on the first micro-batches, then planned for each row.

    Until the first optimizer step is done, and for one micro-batch after it, all layers but the last recompute (the
    last is recomputed at once, so that keeping it costs nothing). Then everything that stays is allocated, and it is
    measured how much memory the device has left and how much a layer keeps. From then on a row of T tokens lets as
    many layers keep their activations as fit into what was left. Should the allocator run out all the same, so that it
    empties its cache (which is slow, and precedes an out-of-memory), the plan gives memory back and is made again.

    Args:
        layers: see `checkpointed_layers`.
        longest_row: tokens of the longest row to come.
        sharded: whether layers gather their weights from other processes (ZeRO-3, FSDP). Recomputing gathers them
            again, so all processes must recompute the same layers: the plan is then made for the longest row and
            agreed on.
    """

    def __init__(self, layers: list[GradientCheckpointingLayer], longest_row: int, sharded: bool) -> None:
        self.layers, self.longest_row, self.sharded = layers, longest_row, sharded
        self.plan: Plan | None = None
        self.first_optimizer_step: int | None = None
        self.planned_step: int | None = None
        recompute_first(layers, len(layers) - 1)

    @contextmanager
    def micro_batch(self, tokens: int, optimizer_steps: int) -> Iterator[None]:
        """Around the forward and backward pass of a row of so many tokens, after so many optimizer steps."""
        if self.plan is not None:
            self._follow_plan(tokens, optimizer_steps)
            yield
            return

        if self.first_optimizer_step is None:
            self.first_optimizer_step = optimizer_steps
        before = read_memory()
        if before is None or optimizer_steps == self.first_optimizer_step:
            yield
            return
        reset_peak()
        kept_bytes: list[int] = []
        with counting_kept_bytes(self.layers[-1], kept_bytes):
            yield
        after = read_memory()
        self.plan = Plan(
            tokens=tokens,
            layer_bytes=sum(kept_bytes),
            working_bytes=after.peak - before.allocated,
            budget=after.free - int(after.total * MARGIN),
            retries=after.retries,
        )
        self._log_plan()

    def _follow_plan(self, tokens: int, optimizer_steps: int) -> None:
        memory = read_memory()
        if memory.retries > self.plan.retries:
            budget = self.plan.budget - int(memory.total * MARGIN)
            self.plan = self.plan._replace(budget=budget, retries=memory.retries)
            self._log_plan()
        if not self.sharded:
            recompute_first(self.layers, self._planned(tokens))
        elif optimizer_steps != self.planned_step:
            self.planned_step = optimizer_steps
            recompute_first(self.layers, agree_on_largest(self._planned(self.longest_row)))

    def _planned(self, tokens: int) -> int:
        return len(self.layers) - self.plan.kept_layers(tokens, len(self.layers))

    def _log_plan(self) -> None:
        logger.info_rank0(
            f"Checkpointing by need: {self.plan.budget / 2**30:.1f} GiB can keep activations, a layer keeps "
            f"{self.plan.layer_bytes / 2**30:.2f} GiB for a row of {self.plan.tokens} tokens; for the longest row of "
            f"{self.longest_row} tokens {self._planned(self.longest_row)} of {len(self.layers)} layers recompute."
        )


class Plan(NamedTuple):
    """What a measured micro-batch says about others. Bytes on this device."""

    tokens: int  # of the measured row
    layer_bytes: int  # that one layer keeps for it
    working_bytes: int  # that its step adds at its peak, with one layer kept
    budget: int  # for keeping more
    retries: int  # of the allocator so far

    def kept_layers(self, tokens: int, num_layers: int) -> int:
        """How many of `num_layers` layers can keep their activations for a row of so many tokens; at least one."""
        growth = tokens / self.tokens
        # A shorter row may have the same fixed parts (gradients), a longer one has at most all parts longer.
        budget = self.budget - self.working_bytes * max(0.0, growth - 1)
        more = int(budget // max(1.0, self.layer_bytes * growth))
        return min(num_layers, 1 + max(0, more))


def recompute_first(layers: list[GradientCheckpointingLayer], number: int) -> None:
    """Let the first `number` layers recompute their activations and the others keep theirs."""
    for i, layer in enumerate(layers):
        layer.gradient_checkpointing = i < number


def agree_on_largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if not dist.is_initialized():
        return number
    tensor = torch.tensor(number, device="cuda" if torch.cuda.is_available() else "cpu")
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


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
