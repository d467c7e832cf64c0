"""A backward pass for each group of padded rows, although one loss couples their log-probs.

In one graph, both groups would keep their activations at a time, and a weight's gradient would wait for the other group's
share: a second set of gradients, whole even where ZeRO shards the first. With reentrant checkpoints each share arrives by
itself: DDP reduces the first and silently leaves the second where it is, ZeRO-2 refuses it. So the group of fewer tokens
runs twice. Its log-probs come first, without a graph, as leaves of the loss; when the backward pass of the larger group is
done, it runs again, with a graph, and takes up the gradient that its log-probs have got. That costs one more forward pass of
the smaller group.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


class SmallerGroup:
    """Log-probs of the smaller group of a micro-batch: first their values, later what carries their gradient on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def first(self, forward: Callable[[], Tensor]) -> Tensor:
        """What `forward` returns, (A,) float32, as a leaf."""
        self._random = self._random_state()
        with torch.no_grad():
            self._logps_A = forward()
        torch.clear_autocast_cache()  # some versions of torch keep weights there that were cast without a graph
        return self._logps_A.requires_grad_()

    def take_gradient(self, loss: Tensor) -> None:
        """Keep the gradient of the loss by the leaf."""
        (self._gradient_A,) = torch.autograd.grad(loss, self._logps_A, retain_graph=True)

    def again(self, forward: Callable[[], Tensor]) -> Tensor:
        """A scalar whose gradient is the group's share of the loss's: `forward` with the same random numbers (noise)."""
        now = self._random_state()
        self._set_random_state(self._random)
        logps_A = forward()
        self._set_random_state(now)
        return (logps_A * self._gradient_A).sum()

    def _random_state(self) -> tuple[Tensor, Tensor | None]:
        devices = torch.get_device_module(self.device)
        return torch.get_rng_state(), None if self.device.type == "cpu" else devices.get_rng_state(self.device)

    def _set_random_state(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.get_device_module(self.device).set_rng_state(state[1], self.device)


@contextmanager
def followed_by_another(accelerator, model) -> Iterator[None]:
    """Let a backward pass be one that another of the same step follows: DeepSpeed takes no step, DDP reduces later.

    FSDP reduces each time: to wait, it would keep whole gradients.
    """
    ends_step = accelerator.sync_gradients
    accelerator.gradient_state._set_sync_gradients(False)
    try:
        with model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext():
            yield
    finally:
        accelerator.gradient_state._set_sync_gradients(ends_step)
