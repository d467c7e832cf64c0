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
ADVICE = (
    "set `solopo_gradient: one_sided`, or lower `solopo_alpha` ({alpha}) or `learning_rate` ({learning_rate:g}); "
    "`solopo_probe: 32` shows what becomes of the answers."
)


class CollapseGuard(TrainerCallback):
    """Warns once when the alignment works against L_PO on most examples, and once when the answers fall apart."""

    def __init__(self, finetuning_args) -> None:
        self.finetuning_args = finetuning_args
        self.short_rewards: list[float] = []
        self.gaps: list[float] = []
        self.turned: list[float] = []
        self.ends: list[float] = []
        self.warned_of_risk = self.warned_of_damage = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for logs in state.log_history:  # of the run that is resumed: it began there
            self.on_log(args, state, control, logs=logs)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.warned_of_damage or not logs or "loss" not in logs or metrics.GAP not in logs:
            return
        self.short_rewards.append(logs[metrics.reward_of("chosen")])
        self.gaps.append(logs[metrics.GAP])
        self.turned.append(logs.get(metrics.TURNED, 0.0))
        self.ends.append(logs.get(metrics.end_of("chosen"), 0.0))
        turned = _mean(self.turned)
        if len(self.gaps) >= WINDOW and turned > MOST and not self.warned_of_risk:
            self.warned_of_risk = True
            self._warn(
                args,
                f"In {turned:.0%} of the examples the alignment lowers the short chosen answer harder than the preference "
                "loss raises it: answers may get worse, or no longer end, while losses and rewards look well",
            )
        if len(self.gaps) < 2 * WINDOW:
            return

        gap_before, gap_now = _mean(self.gaps[:WINDOW]), _mean(self.gaps[-WINDOW:])
        fall = _mean(self.short_rewards[:WINDOW]) - _mean(self.short_rewards[-WINDOW:])
        if fall > max(gap_before, gap_now) / 2 and (gap_now < gap_before / 2 or turned > MOST):
            self.warned_of_damage = True
            self._warn(
                args,
                f"The short chosen reward fell by {fall:.3g} while the alignment gap went from {gap_before:.3g} to "
                f"{gap_now:.3g}: the model may be unlearning the answers",
            )
        elif _mean(self.ends[-WINDOW:]) < _mean(self.ends[:WINDOW]) - math.log(2):
            self.warned_of_damage = True
            self._warn(
                args,
                f"The token that ends the chosen answer went from a log-probability of {_mean(self.ends[:WINDOW]):.3g} to "
                f"{_mean(self.ends[-WINDOW:]):.3g}: answers may no longer end",
            )

    def _warn(self, args, what: str) -> None:
        advice = ADVICE.format(alpha=self.finetuning_args.solopo_alpha, learning_rate=args.learning_rate)
        logger.warning_rank0(f"{what}; {advice}")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
