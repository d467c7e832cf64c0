"""A warning for the one way in which SoLoPO fails quietly: the gap closes from the wrong side."""

from transformers import TrainerCallback

from ..host.log import logger
from . import metrics


WINDOW = 5  # logs that a mean is taken over, to see through batch noise


class CollapseGuard(TrainerCallback):
    """Warns once when the alignment gap closes because the short chosen reward falls.

    Aligned rewards are the goal when the long one rises. With a learning rate or alpha too high the short one falls to
    the long one instead, and the model unlearns the answer on both contexts while the loss goes down.
    """

    def __init__(self, finetuning_args) -> None:
        self.finetuning_args = finetuning_args
        self.short_rewards: list[float] = []
        self.gaps: list[float] = []
        self.warned = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for logs in state.log_history:  # of the run that is resumed: it began there
            self.on_log(args, state, control, logs=logs)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.warned or not logs or "loss" not in logs or metrics.GAP not in logs:
            return
        self.short_rewards.append(logs[metrics.reward_of("chosen")])
        self.gaps.append(logs[metrics.GAP])
        if len(self.gaps) < 2 * WINDOW:
            return

        def mean(values: list[float]) -> float:
            return sum(values) / len(values)

        gap_before, gap_now = mean(self.gaps[:WINDOW]), mean(self.gaps[-WINDOW:])
        fall = mean(self.short_rewards[:WINDOW]) - mean(self.short_rewards[-WINDOW:])
        if gap_now < gap_before / 2 and fall > gap_before / 2:
            self.warned = True
            logger.warning_rank0(
                f"The alignment gap closed from {gap_before:.3g} to {gap_now:.3g} while the short chosen reward fell "
                f"by {fall:.3g}: the model may be unlearning the answers. Lower `solopo_alpha` "
                f"({self.finetuning_args.solopo_alpha:g}) or `learning_rate` ({args.learning_rate:g}), or set "
                "`solopo_stop_grad: true`."
            )
