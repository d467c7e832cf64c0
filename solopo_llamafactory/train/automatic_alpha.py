"""`solopo_alpha: auto`: the weight of the alignment from what the two terms pull with.

In log-probs, the alignment pulls on the long answer with alpha * d r / d logp and the preference loss on the short one with
d L_PO / d logp. The first differs by orders of magnitude between ORPO (1 / (1 - p)), SimPO (beta) and DPO (beta, on sums),
and a fixed alpha with it. So alpha is chosen in proportion to the second over the first:

    alpha = BALANCE * mean |d L_PO / d logp_w| / mean |d r(x_long, y_w) / d logp_w|

The means are over the examples of the first optimizer steps, of all processes; then alpha is kept. Both derivatives come
from the (N,) numbers of a batch that are there anyway.
"""

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from ..host.log import logger
from .objectives import Pulls


BALANCE = 7.0  # found on a model of 0.4 M parameters, where it is near the best alpha of ORPO, SimPO and DPO
MEASURED_STEPS = 10
STATE = "solopo_alpha"  # its name in trainer_state.json


class AutomaticAlpha(TrainerCallback):
    """Measures during the first optimizer steps, alike in all processes, and keeps alpha from then on.

    A step's alpha comes from the steps before it, so that it does not depend on how a batch is cut into micro-batches; the
    first step trains on the preference loss alone.
    """

    def __init__(self) -> None:
        self.preference = self.reward = 0.0  # sums of absolute derivatives, over complete steps
        self.steps = 0  # of these
        self._step = torch.zeros(2, dtype=torch.float64)  # the same of the step in progress, on this process

    @property
    def value(self) -> float:
        """Alpha by what is measured so far, 0 before anything is."""
        return BALANCE * self.preference / self.reward if self.reward > 0 else 0.0

    @property
    def is_measuring(self) -> bool:
        """Whether the first steps are still to be measured; afterwards alpha is `value`."""
        return self.steps < MEASURED_STEPS

    def of_training(self, pulls: Pulls, last_of_step: bool) -> float:
        """Return alpha for a micro-batch in training, and measure the micro-batch during the first steps.

        Args:
            pulls: of the micro-batch on this process, see `objectives.pulls`.
            last_of_step: whether the optimizer steps after this micro-batch.
        """
        alpha = self.value
        if self.is_measuring:
            self._step = self._step.to(pulls.preference["chosen"].device) + _sums(pulls)
            if last_of_step:
                self._end_step()
        return alpha

    def _end_step(self) -> None:
        if dist.is_initialized():
            dist.all_reduce(self._step)
        preference, reward = self._step.tolist()
        self.preference, self.reward = self.preference + preference, self.reward + reward
        self._step = torch.zeros_like(self._step)
        self.steps += 1
        if self.steps == MEASURED_STEPS:
            logger.info_rank0(f"`solopo_alpha: auto` is {self.value:.4g} from here on.")

    def to_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"preference": self.preference, "reward": self.reward, "steps": self.steps}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for name, value in (state.stateful_callbacks or {}).get(STATE, {}).items():  # of the run that is resumed
            setattr(self, name, value)


def _sums(pulls: Pulls) -> torch.Tensor:
    """Sums of absolute derivatives over examples: of L_PO by the chosen answer, and of its long reward, (2,) float64."""
    derivatives = torch.stack([pulls.preference["chosen"], pulls.long_reward["chosen"]]).double().abs()
    return derivatives.nan_to_num(0.0, 0.0, 0.0).sum(1)  # a loss that is not finite is told elsewhere
