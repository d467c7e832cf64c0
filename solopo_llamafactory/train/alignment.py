r"""SoLo-RA, the second term of the objective: s(r(x_short, y) - r(x_long, y)), and where its gradient goes.

With delta = r(x_short, y_w) - r(x_long, y_w) > 0 the formula's gradient pushes the short reward down by alpha, and L_PO
pushes it up by |f'(margin)|, which is at most 1 for logistic and hinge losses: at alpha >= 1 the short chosen reward is
never pushed up while the long one lags. The bound that the term comes from does not need that. The loss f falls with the
margin, so f(m_long) <= f(m_short) + relu(delta_w) + relu(-delta_l): only a long chosen reward below the short one, or a
long rejected reward above it, can hurt; and the short rewards are L_PO's own.

    both       s(r_short - r_long): the paper's formula (arXiv 2505.11166)
    long       s(sg(r_short) - r_long)
    one_sided  s(relu(sg(r_short) - r_long)), of a rejected answer s(relu(r_long - sg(r_short))): the tighter bound
    capped     as `both`, with the gradient into the short reward scaled down, example by example, as far as it would turn
               the direction in which L_PO moves the short answer

The default is `one_sided`. With `solopo_align: both` the rejected answer has a term of its own: the same distance under
`both` and `long`; only where its long reward is above its short one under `one_sided`; under `capped` the same distance,
each answer's short reward capped by L_PO's pull on that answer.

Every tensor has shape (N,), one number per example, float32.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


# `solopo_gradient`, and in words.
GRADIENTS = {
    "one_sided": "the long reward alone, and only where it lags behind the short one",
    "both": "both rewards, as the paper's formula reads",
    "long": "the long reward alone",
    "capped": "both rewards, into the short one only as far as the preference loss outweighs it",
}

# s, on the difference of two rewards. abs is the paper's; the others are ablations.
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "squared": torch.square,
    "huber": lambda gap: F.huber_loss(gap, torch.zeros_like(gap), reduction="none", delta=1.0),
}


def reward_alignment(
    short_reward: Tensor,
    long_reward: Tensor,
    distance: str,
    gradient: str,
    of_chosen: bool = True,
    share: Tensor | None = None,
) -> Tensor:
    """SoLo-RA of one answer.

    Args:
        distance: a key of `DISTANCES`.
        gradient: a key of `GRADIENTS`.
        of_chosen: whether it is the chosen answer's, which hurts where it is lower on the long context.
        share: for `capped`, see `capped_share`.
    """
    if gradient == "capped":
        short_reward = short_reward.detach() + share * (short_reward - short_reward.detach())
    elif gradient != "both":
        short_reward = short_reward.detach()
    gap = short_reward - long_reward
    if gradient == "one_sided":
        gap = torch.relu(gap if of_chosen else -gap)
    return DISTANCES[distance](gap)


def alignment_slope(short_reward: Tensor, long_reward: Tensor, distance: str) -> Tensor:
    """Return d s(r_short - r_long) / d r_short, without gradient."""
    with torch.enable_grad():
        gap = (short_reward - long_reward).detach().requires_grad_()
        return torch.autograd.grad(DISTANCES[distance](gap).sum(), gap)[0]


def capped_share(preference_pull: Tensor, alignment_pull: Tensor) -> Tensor:
    """Return the share of the alignment's pull on a log-prob that leaves its direction to the preference loss, in [0, 1].

    Args:
        preference_pull: d L_PO / d logp.
        alignment_pull: alpha * d s / d logp.
    """
    opposed = preference_pull * alignment_pull < 0
    return torch.where(opposed, (preference_pull / alignment_pull).abs().clamp(max=1.0), 1.0)
