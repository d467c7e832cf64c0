"""Collectives of the training processes that also work with a single one, where each returns what it was given."""

from typing import Any

import torch
import torch.distributed as dist


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_main() -> bool:
    """Whether this is the main process."""
    return rank_and_world_size()[0] == 0


def share_of(count: int) -> list[int]:
    """Return this process's part of the indices below `count`, as many in every process.

    Sharded models need all processes at each forward pass, so the last ones may repeat an index.
    """
    rank, world_size = rank_and_world_size()
    return [(i + rank) % count for i in range(0, count, world_size)]


def same_everywhere(value: Any) -> Any:
    """Return the main process's value in every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def in_any(value: bool, device: torch.device) -> bool:
    """Whether it is true in one of them: a collective of one element on the device."""
    if not dist.is_initialized():
        return value
    flag = torch.tensor(float(value), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)


def smallest(number: int) -> int:
    """Return the smallest of the processes' numbers."""
    if not dist.is_initialized():
        return number
    tensor = torch.tensor(number, device="cuda" if torch.cuda.is_available() else "cpu")
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return int(tensor)


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, by rank."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
