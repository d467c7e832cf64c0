"""Warnings of the ways in which SoLoPO fails while its loss goes down.

The formula's alignment pulls the long reward up and the short one down. Signs of that, all from logged metrics:

    against L_PO   on most examples the alignment lowers the short chosen answer harder than L_PO raises it. It is there from
                   the first step on, and says that the run is at risk: at a small learning rate it may do no harm, and
                   where it does, losses, rewards and log-probs need not show it.
    the fall       the short chosen reward has fallen by a good part of the gap, while most examples are turned around so or
                   while the gap closes: the answer is unlearned.
    the end        the token that ends the chosen answer has lost half its probability: answers may no longer end.
"""

import math

from transformers import TrainerCallback

from ..host.log import logger
from . import metrics


WINDOW = 5  # logs that a mean is taken over, to see through batch noise
MOST = 2 / 3  # of the examples


class CollapseGuard(TrainerCallback):
    """Warns once when the alignment works against L_PO on most examples, and once when the answers fall apart."""

    def __init__(self, finetuning_args) -> None:
        self.finetuning_args = finetuning_args
        self.seen: list[dict[str, float]] = []
        self.warned_of_risk = self.warned_of_damage = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for logs in state.log_history:  # of the run that is resumed: it began there
            self.on_log(args, state, control, logs=logs)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.warned_of_damage or not logs or "loss" not in logs or metrics.GAP not in logs:
            return
        self.seen.append(logs)
        turned = _mean(self.seen, metrics.TURNED)
        if len(self.seen) >= WINDOW and turned > MOST and not self.warned_of_risk:
            self.warned_of_risk = True
            self._warn(
                args,
                f"In {turned:.0%} of the examples the alignment lowers the short chosen answer harder than the preference "
                "loss raises it: answers may get worse, or no longer end, while losses and rewards look well",
            )
        if len(self.seen) < 2 * WINDOW:
            return

        parts = self.seen[:WINDOW], self.seen[-WINDOW:]
        gap_before, gap_now = (_mean(part, metrics.GAP) for part in parts)
        reward_before, reward_now = (_mean(part, metrics.reward_of("chosen")) for part in parts)
        end_before, end_now = (_mean(part, metrics.end_of("chosen")) for part in parts)
        fall = reward_before - reward_now
        damage = None
        if fall > max(gap_before, gap_now) / 2 and (gap_now < gap_before / 2 or turned > MOST):
            damage = (
                f"The short chosen reward fell by {fall:.3g} while the alignment gap went from {gap_before:.3g} to "
                f"{gap_now:.3g}: the model may be unlearning the answers"
            )
        elif end_now < end_before - math.log(2):
            damage = (
                f"The token that ends the chosen answer went from a log-probability of {end_before:.3g} to {end_now:.3g}: "
                "answers may no longer end"
            )
        if damage is not None:
            self.warned_of_damage = True
            self._warn(args, damage)

    def _warn(self, args, what: str) -> None:
        ours = self.finetuning_args
        gradient = "" if ours.solopo_gradient == "one_sided" else "set `solopo_gradient: one_sided`, or "
        logger.warning_rank0(
            f"{what}; {gradient}lower `solopo_alpha` ({ours.solopo_alpha}) or `learning_rate` ({args.learning_rate:g}); "
            "`solopo_probe: 32` shows what becomes of the answers."
        )


def _mean(seen: list[dict[str, float]], name: str) -> float:
    return sum(logs.get(name, 0.0) for logs in seen) / len(seen)
