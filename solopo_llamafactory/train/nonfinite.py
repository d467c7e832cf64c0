"""A loss that is NaN or infinite: the examples that caused it by name, and the step left out or the run stopped."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from ..common.distributed import gather, in_any
from ..host.log import logger


MAX_NAMES = 8  # in one sentence
MAX_SKIPPED_IN_A_ROW = 10  # more come from broken weights, not from single examples


class NonfiniteLosses(TrainerCallback):
    """Looks at every example's loss before the backward pass of a step's last micro-batch, alike in all processes.

    A step that is left out goes through its backward pass like any other, which DDP, DeepSpeed and FSDP rely on, and then
    the optimizer is not stepped: weights and optimizer state stay as they are. The learning rate goes by the number of
    the step and moves on (not in float16, nor in float32 under DeepSpeed: both leave such a step out by themselves, and
    their schedule waits).

    Args:
        skip: leave such a step out; else raise.
        device: where a collective of one element runs, once a step with several processes.
    """

    def __init__(self, skip: bool, device: torch.device) -> None:
        self.skip, self.device = skip, device
        self.skipping = False  # the step in progress is left out
        self.steps = self.skipped = 0  # since the last log
        self.total_steps = self.total_skipped = 0
        self._in_a_row = 0
        self._found: list[str] = []  # of this process in the step in progress
        self._logged_loss = torch.zeros((), device=device)  # of the step in progress
        self._named: set[str] = set()

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs) -> None:
        if not self.skip:
            return
        while hasattr(optimizer, "optimizer"):  # accelerate and DeepSpeed wrap it, and DeepSpeed steps it by itself
            optimizer = optimizer.optimizer
        step = optimizer.step
        optimizer.step = lambda *args, **kwargs: None if self.skipping else step(*args, **kwargs)

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.skipping, self._found = False, []
        self._logged_loss = torch.zeros_like(self._logged_loss)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.steps += 1
        self.total_steps += 1
        self.skipped += self.skipping
        self.total_skipped += self.skipping
        self._in_a_row = self._in_a_row + 1 if self.skipping else 0

    def check(self, ids: Sequence[str], losses: Sequence[float], last: bool, step: int) -> None:
        """Look at a micro-batch.

        Args:
            ids: of its examples.
            losses: of its examples.
            last: whether it is the step's last one, after which the optimizer steps.
            step: the step's number, for the sentence.

        Raises:
            ValueError: in all processes, when one of them has such a loss and the step is not to be left out, or after
                many such steps in a row.
        """
        self._found += [name for name, loss in zip(ids, losses) if not math.isfinite(loss)]
        if not last or not in_any(bool(self._found), self.device):
            return
        names = list(dict.fromkeys(name for found in gather(self._found) for name in found))
        if not self.skip:
            raise ValueError(
                f"The loss is not a finite number at step {step} for {_listed(names)}: look at these examples, at the "
                "model's weights and at `learning_rate`, or set `solopo_nonfinite: skip` to leave such steps out."
            )
        if self._in_a_row == MAX_SKIPPED_IN_A_ROW:
            raise ValueError(
                f"The loss was not a finite number in {MAX_SKIPPED_IN_A_ROW + 1} steps in a row, at step {step} for "
                f"{_listed(names)}: the weights are probably broken, go back to an earlier checkpoint."
            )
        self.skipping = True
        new = [name for name in names if name not in self._named]
        self._named.update(new)
        if new:
            logger.warning_rank0(
                f"The loss is not a finite number at step {step} for {_listed(new)}: the step is left out "
                "(`solopo_nonfinite: skip`). They are not named again."
            )

    def logged_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """What a micro-batch adds to the logged loss; a step that is left out adds 0 with its last one."""
        if self.skip:
            loss = -self._logged_loss if self.skipping else loss.nan_to_num(0, 0, 0)
            self._logged_loss = self._logged_loss + loss
        return loss

    def correct(self, logs: dict[str, Any]) -> None:
        """Make the logs of training speak of the steps that were taken; those left out count 0 in the sums."""
        if not self.skip:
            return
        if "train_loss" in logs and self.total_skipped:
            taken = self.total_steps - self.total_skipped
            logs["train_loss"] = logs["train_loss"] * self.total_steps / taken if taken else math.nan
        if "loss" not in logs:
            return
        taken = self.steps - self.skipped
        logs["steps_skipped"] = self.skipped
        if not taken:
            del logs["loss"]
        elif self.skipped:
            logs["loss"] *= self.steps / taken
        if self.skipped and not math.isfinite(logs.get("grad_norm", 0)):  # of the last step, which was left out
            del logs["grad_norm"]
        self.steps = self.skipped = 0


def _listed(names: list[str]) -> str:
    listed = ", ".join(f"`{name}`" for name in names[:MAX_NAMES])
    others = len(names) - MAX_NAMES
    return f"example{'s' * (len(names) > 1)} {listed}" + (f" and {others} more" if others > 0 else "")
