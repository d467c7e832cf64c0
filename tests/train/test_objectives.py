"""The losses against numbers worked by hand and against TRL, and ORPO's log-odds at its dangerous end."""

import math

import pytest
import torch
from torch import tensor

from solopo_llamafactory.train.objectives import (
    ALGORITHMS,
    Algorithm,
    Hyperparameters,
    Objective,
    log1mexp,
    log_odds,
    reward_alignment,
    solopo_loss,
)


def softplus(x: float) -> float:
    """-log sigmoid(-x)."""
    return math.log1p(math.exp(x))


def pair_loss(
    name: str, chosen: float, rejected: float, ref_chosen=None, ref_rejected=None, **hyperparameters
) -> float:
    """The loss of one pair from its log-probs, as the trainer computes it."""
    hp = Hyperparameters(**hyperparameters)
    algorithm = ALGORITHMS[name]
    references = [None if ref is None else tensor([ref]) for ref in (ref_chosen, ref_rejected)]
    rewards = [algorithm.reward(tensor([x]), ref, hp) for x, ref in zip((chosen, rejected), references)]
    return algorithm.pair_loss(*rewards, tensor([chosen]), hp).item()


def test_dpo_by_hand():
    # rewards 0.5 * (-10 + 12) = 1 and 0.5 * (-14 + 13) = -0.5: margin 1.5
    loss = pair_loss("sigmoid", -10.0, -14.0, -12.0, -13.0, beta=0.5)
    assert loss == pytest.approx(softplus(-1.5), rel=1e-6)


def test_dpo_label_smoothing_by_hand():
    # 0.9 * -log sigmoid(1.5) + 0.1 * -log sigmoid(-1.5)
    loss = pair_loss("sigmoid", -10.0, -14.0, -12.0, -13.0, beta=0.5, label_smoothing=0.1)
    assert loss == pytest.approx(0.9 * softplus(-1.5) + 0.1 * softplus(1.5), rel=1e-6)


def test_simpo_by_hand():
    # rewards 2 * -0.5 = -1 and 2 * -1.25 = -2.5: margin 1.5, minus gamma 0.5
    assert pair_loss("simpo", -0.5, -1.25, beta=2.0, gamma=0.5) == pytest.approx(softplus(-1.0), rel=1e-6)


def test_orpo_by_hand():
    # p = 0.8 and 0.5: log odds log 4 and 0; -log 0.8 + 0.1 * -log sigmoid(log 4) = -log 0.8 - 0.1 * log 0.8
    loss = pair_loss("orpo", math.log(0.8), math.log(0.5), beta=0.1)
    assert loss == pytest.approx(-1.1 * math.log(0.8), rel=1e-5)


def test_hinge_by_hand():
    # margin 0.5 * ((-10 + 12) - (-14 + 13.5)) = 1.25 is enough; at beta 0.1 it is 0.25 and 0.75 is missing
    assert pair_loss("hinge", -10.0, -14.0, -12.0, -13.5, beta=0.5) == 0
    assert pair_loss("hinge", -10.0, -14.0, -12.0, -13.5, beta=0.1) == pytest.approx(0.75, rel=1e-6)


def test_ipo_by_hand():
    # margin (-1 + 1.5) - (-2 + 1) = 1.5, target 1 / (2 * 0.25) = 2: (-0.5)^2
    assert pair_loss("ipo", -1.0, -2.0, -1.5, -1.0, beta=0.25) == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_equals_trl(name, label_smoothing):
    """TRL's dpo_loss with an explicit loss type (the host passes none, and gets sigmoid for all of them)."""
    from types import SimpleNamespace

    from llamafactory.train.dpo.trainer import DPOTrainer

    if label_smoothing and name != "sigmoid":
        pytest.skip("only sigmoid has label smoothing")
    torch.manual_seed(0)
    logps = [torch.randn(8) * 3 - 5 for _ in range(4)]
    trl_self = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        reference_free=False,
        f_divergence_type="reverse_kl",
        f_divergence_params=None,
        beta=0.3,
        label_smoothing=label_smoothing,
    )
    expected, chosen_rewards, _ = DPOTrainer.dpo_loss(trl_self, *logps, loss_type=name)

    hp = Hyperparameters(beta=0.3, label_smoothing=label_smoothing)
    algorithm = ALGORITHMS[name]
    chosen, rejected = (algorithm.reward(logps[i], logps[i + 2], hp) for i in (0, 1))
    torch.testing.assert_close(algorithm.pair_loss(chosen, rejected, logps[0], hp), expected)
    if name != "ipo":  # TRL reports beta * (l - l_ref) for ipo too
        torch.testing.assert_close(chosen, chosen_rewards)


def test_alignment_by_hand():
    short, long = tensor([-1.0, 0.5, 2.0]), tensor([-1.5, 0.5, 5.0])
    assert reward_alignment(short, long).tolist() == [0.5, 0.0, 3.0]
    assert reward_alignment(short, long, "squared").tolist() == [0.25, 0.0, 9.0]
    # Huber with delta 1: x^2 / 2 inside, |x| - 1/2 outside
    assert reward_alignment(short, long, "huber").tolist() == [0.125, 0.0, 2.5]


@pytest.mark.parametrize("stop_grad", [False, True])
def test_alignment_gradient_flows_through_both_rewards_unless_stopped(stop_grad):
    short, long = tensor([1.0], requires_grad=True), tensor([3.0], requires_grad=True)
    loss = reward_alignment(short * 1, long * 1, stop_grad=stop_grad)
    loss.sum().backward()
    assert long.grad.item() == 1
    assert (short.grad is None) if stop_grad else (short.grad.item() == -1)


def test_log1mexp_equals_float64():
    x = -torch.logspace(-7, 1.9, 200, dtype=torch.float32)
    wide = x.double()  # has digits to spare in either form, each at its own end
    expected = torch.where(wide > -1, torch.log(-torch.expm1(wide)), torch.log1p(-torch.exp(wide)))
    torch.testing.assert_close(log1mexp(x).double(), expected, rtol=1e-6, atol=1e-34)


@pytest.mark.parametrize("mean_logp", [-1e-8, -1e-12, 0.0, -60.0])
def test_orpo_is_finite_where_the_model_is_certain(mean_logp):
    chosen = tensor([mean_logp], requires_grad=True)
    rejected = tensor([-1.0])
    algorithm, hp = ALGORITHMS["orpo"], Hyperparameters(beta=0.1)
    reward = algorithm.reward(chosen, None, hp)
    loss = algorithm.pair_loss(reward, algorithm.reward(rejected, None, hp), chosen, hp)
    loss = loss + reward_alignment(reward, log_odds(rejected))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(chosen.grad).all()


def test_a_new_algorithm_is_one_entry(monkeypatch):
    """The README's example: CPO's sigmoid loss is DPO without a reference."""
    cpo = Algorithm(
        reward=lambda logps, ref_logps, hp: hp.beta * logps,
        pair_loss=lambda chosen, rejected, logps, hp: -torch.nn.functional.logsigmoid(chosen - rejected) - logps,
        needs_reference=False,
        length_normalized=False,
    )
    monkeypatch.setitem(ALGORITHMS, "cpo", cpo)
    assert pair_loss("cpo", -10.0, -14.0, beta=0.5) == pytest.approx(softplus(-2.0) + 10, rel=1e-6)


LENGTHS = {"chosen": tensor([4.0]), "rejected": tensor([2.0]), "chosen_long": tensor([4.0])}
SUMS = {"chosen": tensor([-2.0]), "rejected": tensor([-3.0]), "chosen_long": tensor([-3.0])}
TWINS = {"chosen": "chosen_long"}


def test_the_whole_of_solo_simpo_by_hand():
    """Means -0.5, -1.5 and -0.75; rewards 2 * them: -1, -3, -1.5. Margin 2 less gamma 0.5; gap 0.5, weighed 3 times."""
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0, gamma=0.5), alpha=3.0)
    losses, metrics = solopo_loss(SUMS, None, LENGTHS, TWINS, objective)
    assert losses.item() == pytest.approx(softplus(-1.5) + 1.5, rel=1e-6)
    expected = {
        "loss/po": softplus(-1.5),
        "loss/solo_ra": 1.5,
        "rewards/gap": 0.5,
        "rewards/chosen": -1.0,
        "rewards/rejected": -3.0,
        "rewards/chosen_long": -1.5,
        "rewards/margins": 2.0,
        "rewards/accuracies": 1.0,
        "logps/chosen": -0.5,
        "logps/rejected": -1.5,
        "logps/chosen_long": -0.75,
    }
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(expected, rel=1e-6)
    assert list(metrics) == list(expected)  # processes average them by position


def test_the_whole_of_solo_dpo_by_hand():
    """Sums, not means: rewards 0.5 * (-2 + 4) = 1, 0.5 * (-3 + 2) = -0.5 and 0.5 * (-3 + 4) = 0.5; SFT term 0.1 * 0.5."""
    objective = Objective(ALGORITHMS["sigmoid"], Hyperparameters(beta=0.5), alpha=2.0, ftx=0.1)
    ref_sums = {"chosen": tensor([-4.0]), "rejected": tensor([-2.0]), "chosen_long": tensor([-4.0])}
    losses, metrics = solopo_loss(SUMS, ref_sums, LENGTHS, TWINS, objective)
    assert losses.item() == pytest.approx(softplus(-1.5) + 0.05 + 2 * 0.5, rel=1e-6)
    assert metrics["loss/po"].item() == pytest.approx(softplus(-1.5) + 0.05, rel=1e-6)
    assert metrics["logps/chosen"].item() == -2.0


def test_a_normalized_algorithm_normalizes_its_reference():
    """IPO: means -0.5 + 1 and -1.5 + 1, margin 1, target 1 / (2 * 0.25) = 2."""
    objective = Objective(ALGORITHMS["ipo"], Hyperparameters(beta=0.25))
    ref_sums = {"chosen": tensor([-4.0]), "rejected": tensor([-2.0])}
    sums = {name: SUMS[name] for name in ref_sums}
    losses, metrics = solopo_loss(sums, ref_sums, LENGTHS, {}, objective)
    assert losses.item() == pytest.approx(1.0)
    assert "loss/solo_ra" not in metrics and "rewards/gap" not in metrics


def test_both_answers_are_aligned_where_both_have_twins():
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=1.0, gamma=0.0))
    sums = SUMS | {"rejected_long": tensor([-2.0])}
    lengths = LENGTHS | {"rejected_long": tensor([2.0])}
    _, metrics = solopo_loss(sums, None, lengths, TWINS | {"rejected": "rejected_long"}, objective)
    assert metrics["loss/solo_ra"].item() == pytest.approx(abs(-0.5 + 0.75) + abs(-1.5 + 1.0))
    assert metrics["rewards/gap"].item() == pytest.approx(0.25)  # of the chosen answer


@pytest.mark.parametrize("stop_grad, short_gradient", [(False, 3.0), (True, 0.0)])
def test_gradients_reach_the_sums_and_metrics_have_none(stop_grad, short_gradient):
    """d (3 * 2 * (s_short - s_long) / 4) = 1.5 for each sum, the sign turned for the long one."""
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0), alpha=3.0, stop_grad=stop_grad)
    sums = {name: value.clone().requires_grad_() for name, value in SUMS.items()}
    losses, metrics = solopo_loss(sums, None, LENGTHS, TWINS, objective)
    po_alone, _ = solopo_loss(sums, None, LENGTHS, {}, objective)
    (losses - po_alone).sum().backward()
    assert sums["chosen"].grad.item() == pytest.approx(short_gradient / 2)
    assert sums["chosen_long"].grad.item() == pytest.approx(-1.5)
    assert not any(value.requires_grad for value in metrics.values())
