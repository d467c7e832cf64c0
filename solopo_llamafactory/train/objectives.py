r"""SoLoPO's objective: pure functions on tensors (arXiv 2505.11166).

    L = L_PO(x_short; y_w, y_l) + alpha * s(r(x_short, y_w) - r(x_long, y_w))

`solopo_loss` is this line; s is |.| in the paper, and one-sided by default here (`alignment.py`). A preference
optimization (PO) algorithm is a row of `ALGORITHMS`: a reward, a loss on the rewards of the pair, and two facts about what
it needs. SoLo-RA, the second term, wraps any of them. To add an algorithm, add one entry.

Every tensor has shape (N,), one number per example, float32. `logps` is the answer's log-probability: the sum over its
tokens, or their mean where the algorithm is length-normalized; the closing EOS counts as a token.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import metrics
from .alignment import alignment_slope, capped_share, reward_alignment


# Log-probs come from float32 logits: below this, 1 - p is rounding noise and log(1 - p) would run away.
LARGEST_MEAN_LOGP = -1e-8


class Hyperparameters(NamedTuple):
    """LLaMA-Factory's own arguments under their meaning in the formulas."""

    beta: float = 0.1  # `pref_beta`: beta of DPO, SimPO and IPO, lambda of ORPO
    gamma: float = 0.5  # `simpo_gamma`
    label_smoothing: float = 0.0  # `dpo_label_smoothing`


@dataclass(frozen=True)
class Algorithm:
    """A PO algorithm.

    Args:
        reward: (logps, ref_logps, hyperparameters) -> reward; `ref_logps` is None without a reference.
        pair_loss: (chosen reward, rejected reward, chosen logps, hyperparameters) -> loss.
        needs_reference: whether the reward compares with a reference model.
        length_normalized: whether logps are means over the answer's tokens instead of sums.
        bounded: whether the loss is convex and 1-Lipschitz in the margin, so that SoLo-RA bounds its long version.
    """

    reward: Callable[[Tensor, Tensor | None, Hyperparameters], Tensor]
    pair_loss: Callable[[Tensor, Tensor, Tensor, Hyperparameters], Tensor]
    needs_reference: bool
    length_normalized: bool
    bounded: bool = True


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, stable at both ends: two forms that meet at x = -log 2 (Maechler, 2012)."""
    near_zero = x > -math.log(2)
    # Each form sees a harmless value where the other one is used, so that its gradient there is 0 and not NaN.
    near = torch.log(-torch.expm1(torch.where(near_zero, x, -1.0)))
    far = torch.log1p(-torch.exp(torch.where(near_zero, -1.0, x)))
    return torch.where(near_zero, near, far)


def log_odds(logps: Tensor) -> Tensor:
    """log(p / (1 - p)) of the mean log-probability: ORPO's reward (arXiv 2403.07691)."""
    logps = logps.clamp(max=LARGEST_MEAN_LOGP)
    return logps - log1mexp(logps)


def dpo_loss(chosen: Tensor, rejected: Tensor, _: Tensor, hp: Hyperparameters) -> Tensor:
    """-log sigmoid(r_w - r_l) (arXiv 2305.18290), with cDPO's label smoothing."""
    margin = chosen - rejected
    return -F.logsigmoid(margin) * (1 - hp.label_smoothing) - F.logsigmoid(-margin) * hp.label_smoothing


def simpo_loss(chosen: Tensor, rejected: Tensor, _: Tensor, hp: Hyperparameters) -> Tensor:
    """-log sigmoid(r_w - r_l - gamma) (arXiv 2405.14734)."""
    return -F.logsigmoid(chosen - rejected - hp.gamma)


def orpo_loss(chosen: Tensor, rejected: Tensor, chosen_logps: Tensor, hp: Hyperparameters) -> Tensor:
    """-lbar_w - lambda * log sigmoid(r_w - r_l) (arXiv 2403.07691)."""
    return -chosen_logps - hp.beta * F.logsigmoid(chosen - rejected)


def hinge_loss(chosen: Tensor, rejected: Tensor, _: Tensor, hp: Hyperparameters) -> Tensor:
    """relu(1 - (r_w - r_l)) (SLiC, arXiv 2305.10425)."""
    return torch.relu(1 - (chosen - rejected))


def ipo_loss(chosen: Tensor, rejected: Tensor, _: Tensor, hp: Hyperparameters) -> Tensor:
    """(r_w - r_l - 1 / (2 beta))^2 (arXiv 2310.12036)."""
    return (chosen - rejected - 1 / (2 * hp.beta)) ** 2


ALGORITHMS: dict[str, Algorithm] = {
    "sigmoid": Algorithm(
        reward=lambda logps, ref_logps, hp: hp.beta * (logps - ref_logps),
        pair_loss=dpo_loss,
        needs_reference=True,
        length_normalized=False,
    ),
    "hinge": Algorithm(
        reward=lambda logps, ref_logps, hp: hp.beta * (logps - ref_logps),
        pair_loss=hinge_loss,
        needs_reference=True,
        length_normalized=False,
    ),
    "ipo": Algorithm(
        reward=lambda logps, ref_logps, hp: logps - ref_logps,
        pair_loss=ipo_loss,
        needs_reference=True,
        length_normalized=True,
        bounded=False,
    ),
    "orpo": Algorithm(
        reward=lambda logps, ref_logps, hp: log_odds(logps),
        pair_loss=orpo_loss,
        needs_reference=False,
        length_normalized=True,
    ),
    "simpo": Algorithm(
        reward=lambda logps, ref_logps, hp: hp.beta * logps,
        pair_loss=simpo_loss,
        needs_reference=False,
        length_normalized=True,
    ),
}


AUTO = "auto"  # `solopo_alpha`: found in the first steps, see `automatic_alpha.py`


@dataclass(frozen=True)
class Objective:
    """What the loss is made of.

    Args:
        alpha: `solopo_alpha`, weight of SoLo-RA, or `AUTO` until a number is found.
        distance: `solopo_distance`, a key of `alignment.DISTANCES`.
        gradient: `solopo_gradient`, a key of `alignment.GRADIENTS`.
        ftx: `pref_ftx`, weight of the chosen answer's mean negative log-prob.
    """

    algorithm: Algorithm
    hyperparameters: Hyperparameters = Hyperparameters()
    alpha: float | str = 1.0
    distance: str = "abs"
    gradient: str = "one_sided"
    ftx: float = 0.0

    @classmethod
    def of(cls, finetuning_args) -> "Objective":
        """The objective that the stage's arguments describe."""
        return cls(
            algorithm=ALGORITHMS[finetuning_args.pref_loss],
            hyperparameters=Hyperparameters(
                beta=finetuning_args.pref_beta,
                gamma=finetuning_args.simpo_gamma,
                label_smoothing=finetuning_args.dpo_label_smoothing,
            ),
            alpha=finetuning_args.solopo_alpha,
            distance=finetuning_args.solopo_distance,
            gradient=finetuning_args.solopo_gradient,
            ftx=finetuning_args.pref_ftx,
        )


def solopo_loss(
    sums: dict[str, Tensor],
    ref_sums: dict[str, Tensor] | None,
    lengths: dict[str, Tensor],
    long_twins: dict[str, str],
    objective: Objective,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The formula above for each example: its loss, (N,) with gradient, and its metrics by name, (N,) without.

    Args:
        sums: sum of an answer's token log-probs by sequence (`chosen`, `rejected`, and long twins).
        ref_sums: the same from the reference model; None for an algorithm without one.
        lengths: tokens of the answer by sequence.
        long_twins: sequence -> the long one that it is aligned with; empty without alignment.
    """
    logps = as_taken(sums, lengths, objective)
    ref_logps = None if ref_sums is None else as_taken(ref_sums, lengths, objective)
    rewards = rewards_of(logps, ref_logps, objective)
    po = preference_loss(logps, rewards, lengths, objective)
    losses, logged = po, {metrics.LOSS_PO: po}
    if long_twins:
        shares = dict.fromkeys(long_twins)
        if objective.gradient in ("both", "capped"):
            found = pulls(sums, ref_sums, lengths, long_twins, objective)
            shares = shares_of_short(found, rewards, long_twins, objective)
        solo_ra = objective.alpha * sum(
            reward_alignment(
                rewards[short], rewards[long], objective.distance, objective.gradient, short == "chosen", shares[short]
            )
            for short, long in long_twins.items()
        )
        losses = po + solo_ra
        logged[metrics.LOSS_SOLO_RA] = solo_ra
        gap = rewards["chosen"] - rewards[long_twins["chosen"]]
        logged[metrics.GAP] = gap.abs()
        if objective.gradient == "both":
            logged[metrics.TURNED] = ((gap > 0) & (shares["chosen"] < 1)).float()

    logged |= {metrics.reward_of(name): reward for name, reward in rewards.items()}
    logged[metrics.MARGINS] = rewards["chosen"] - rewards["rejected"]
    logged[metrics.ACCURACIES] = (rewards["chosen"] > rewards["rejected"]).float()
    logged |= {metrics.logps_of(name): value for name, value in logps.items()}
    return losses, {name: value.detach() for name, value in logged.items()}


def as_taken(sums: dict[str, Tensor], lengths: dict[str, Tensor], objective: Objective) -> dict[str, Tensor]:
    """Return log-probs as the algorithm takes them: means over the answer's tokens, or sums."""
    if not objective.algorithm.length_normalized:
        return sums
    return {name: value / lengths[name] for name, value in sums.items()}


def rewards_of(
    logps: dict[str, Tensor], ref_logps: dict[str, Tensor] | None, objective: Objective
) -> dict[str, Tensor]:
    """Return the reward of each sequence."""
    algorithm, hp = objective.algorithm, objective.hyperparameters
    refs = dict.fromkeys(logps) if ref_logps is None else ref_logps
    return {name: algorithm.reward(logps[name], refs[name], hp) for name in logps}


def preference_loss(
    logps: dict[str, Tensor], rewards: dict[str, Tensor], lengths: dict[str, Tensor], objective: Objective
) -> Tensor:
    """L_PO of the pair, with `pref_ftx`."""
    algorithm = objective.algorithm
    po = algorithm.pair_loss(rewards["chosen"], rewards["rejected"], logps["chosen"], objective.hyperparameters)
    mean = logps["chosen"] if algorithm.length_normalized else logps["chosen"] / lengths["chosen"]
    return po + objective.ftx * -mean


class Pulls(NamedTuple):
    """Derivatives by log-probs as the algorithm takes them, by the short sequence's name, each (N,) without gradient."""

    preference: dict[str, Tensor]  # d L_PO / d logp_short
    short_reward: dict[str, Tensor]  # d r_short / d logp_short
    long_reward: dict[str, Tensor]  # d r_long / d logp_long


def pulls(
    sums: dict[str, Tensor],
    ref_sums: dict[str, Tensor] | None,
    lengths: dict[str, Tensor],
    long_twins: dict[str, str],
    objective: Objective,
) -> Pulls:
    """Return what the two terms pull with; from the (N,) numbers that there are, without another pass.

    Args: as those of `solopo_loss`.
    """
    logps = as_taken(sums, lengths, objective)
    ref_logps = None if ref_sums is None else as_taken(ref_sums, lengths, objective)
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in logps.items()}
        rewards = rewards_of(leaves, ref_logps, objective)
        po = preference_loss(leaves, rewards, lengths, objective)

        def derivatives(of: Tensor, names) -> list[Tensor]:
            return list(torch.autograd.grad(of.sum(), [leaves[name] for name in names], retain_graph=True))

        return Pulls(
            preference=dict(zip(long_twins, derivatives(po, long_twins))),
            short_reward={short: derivatives(rewards[short], [short])[0] for short in long_twins},
            long_reward={short: derivatives(rewards[long], [long])[0] for short, long in long_twins.items()},
        )


def shares_of_short(
    found: Pulls, rewards: dict[str, Tensor], long_twins: dict[str, str], objective: Objective
) -> dict[str, Tensor]:
    """Return, for `capped`, the share of the alignment's gradient that reaches each short reward, (N,) in [0, 1].

    Less than 1 where the whole of it would turn the direction in which L_PO moves the short answer's log-prob.
    """
    shares = {}
    for short, long in long_twins.items():
        slope = alignment_slope(rewards[short], rewards[long], objective.distance)
        alignment = objective.alpha * slope * found.short_reward[short]
        shares[short] = capped_share(found.preference[short], alignment)
    return shares
