"""The losses against numbers worked by hand and against TRL, and ORPO's log-odds at its dangerous end."""

import math

import pytest
import torch
from torch import tensor

from solopo_llamafactory.train.alignment import GRADIENTS, reward_alignment
from solopo_llamafactory.train.objectives import (
    ALGORITHMS,
    Algorithm,
    Hyperparameters,
    Objective,
    log1mexp,
    log_odds,
    pulls,
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
    loss = loss + reward_alignment(reward, log_odds(rejected), "abs", "both")
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
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0, gamma=0.5), alpha=3.0, gradient="both")
    losses, metrics = solopo_loss(SUMS, None, LENGTHS, TWINS, objective)
    assert losses.item() == pytest.approx(softplus(-1.5) + 1.5, rel=1e-6)
    expected = {
        "loss/po": softplus(-1.5),
        "loss/solo_ra": 1.5,
        "rewards/gap": 0.5,
        "rewards/chosen_turned": 1.0,  # alpha * beta = 6 against beta * sigmoid(-1.5)
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
    objective = Objective(ALGORITHMS["sigmoid"], Hyperparameters(beta=0.5), alpha=2.0, ftx=0.1, gradient="both")
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


def align_both(rejected_long: float, gradient: str) -> tuple[dict[str, float], dict[str, float]]:
    """SoLo-SimPO with beta 1 and alpha 1, both answers aligned: metrics, and the loss's derivatives by rewards.

    Rewards: -0.5 and -1.5, on the long context -0.75 and `rejected_long`. The margin of 1 pulls both with sigmoid(-1).
    """
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=1.0, gamma=0.0), gradient=gradient)
    lengths = LENGTHS | {"rejected_long": tensor([2.0])}
    sums = SUMS | {"rejected_long": tensor([2 * rejected_long])}
    sums = {name: value.clone().requires_grad_() for name, value in sums.items()}
    losses, metrics = solopo_loss(sums, None, lengths, TWINS | {"rejected": "rejected_long"}, objective)
    losses.sum().backward()
    values = {name: value.item() for name, value in metrics.items()}
    return values, {name: (value.grad * lengths[name]).item() for name, value in sums.items()}


PULL = 1 / (1 + math.e)  # sigmoid(-1)


@pytest.mark.parametrize(
    "gradient, of_chosen, of_rejected",
    [
        ("both", 1 - PULL, PULL - 1),  # the alignment alone decides where both short rewards go
        ("long", -PULL, PULL),
        ("one_sided", -PULL, PULL),
        ("capped", 0, 0),  # both stand still
    ],
)
def test_both_answers_aligned_where_both_hurt(gradient, of_chosen, of_rejected):
    """The chosen answer is 0.25 lower on the long context, the rejected one 0.5 higher."""
    metrics, slopes = align_both(-1.0, gradient)
    assert metrics["loss/solo_ra"] == pytest.approx(0.25 + 0.5)
    assert metrics["rewards/gap"] == pytest.approx(0.25)  # of the chosen answer
    expected = {"chosen": of_chosen, "rejected": of_rejected, "chosen_long": -1, "rejected_long": 1}
    assert slopes == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "gradient, solo_ra, of_rejected, of_rejected_long",
    [
        ("both", 0.25 + 0.5, PULL + 1, -1),
        ("long", 0.25 + 0.5, PULL, -1),
        ("one_sided", 0.25, PULL, 0),
        ("capped", 0.25 + 0.5, PULL + 1, -1),  # the alignment pulls where the preference loss does: all of it
    ],
)
def test_a_rejected_answer_that_is_worse_on_the_long_context_is_left_alone_by_one_sided_only(
    gradient, solo_ra, of_rejected, of_rejected_long
):
    """The rejected answer is 0.5 lower there: that helps the margin."""
    metrics, slopes = align_both(-2.0, gradient)
    assert metrics["loss/solo_ra"] == pytest.approx(solo_ra)
    assert slopes["rejected"] == pytest.approx(of_rejected)
    assert slopes["rejected_long"] == pytest.approx(of_rejected_long)


@pytest.mark.parametrize("gradient, short_gradient", [("both", 1.5), ("long", 0.0), ("one_sided", 0.0)])
def test_gradients_reach_the_sums_and_metrics_have_none(gradient, short_gradient):
    """d (3 * 2 * (s_short - s_long) / 4) = 1.5 for each sum, the sign turned for the long one."""
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0), alpha=3.0, gradient=gradient)
    sums = {name: value.clone().requires_grad_() for name, value in SUMS.items()}
    losses, metrics = solopo_loss(sums, None, LENGTHS, TWINS, objective)
    po_alone, _ = solopo_loss(sums, None, LENGTHS, {}, objective)
    (losses - po_alone).sum().backward()
    assert sums["chosen"].grad.item() == pytest.approx(short_gradient)
    assert sums["chosen_long"].grad.item() == pytest.approx(-1.5)
    assert not any(value.requires_grad for value in metrics.values())


def test_every_gradient_has_the_same_loss_where_the_long_reward_lags():
    losses = [
        solopo_loss(SUMS, None, LENGTHS, TWINS, Objective(ALGORITHMS["orpo"], gradient=gradient))[0].item()
        for gradient in GRADIENTS
    ]
    assert losses == [losses[0]] * 4


def test_one_sided_asks_nothing_of_a_long_reward_that_leads():
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0), gradient="one_sided")
    _, metrics = solopo_loss(SUMS | {"chosen_long": tensor([-1.0])}, None, LENGTHS, TWINS, objective)
    assert metrics["loss/solo_ra"].item() == 0 and metrics["rewards/gap"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["sigmoid", "orpo", "simpo"])
@pytest.mark.parametrize("alpha", [0.01, 10.0])
def test_capped_never_turns_the_short_answer_around(name, alpha):
    """A small alpha is not touched; with a large one the short answer stands still instead of falling."""
    refs = {"chosen": tensor([-4.0]), "rejected": tensor([-2.0]), "chosen_long": tensor([-4.0])}
    refs = refs if ALGORITHMS[name].needs_reference else None
    gradients = {}
    for gradient in ("both", "capped", "long"):
        objective = Objective(ALGORITHMS[name], Hyperparameters(beta=1.0), alpha=alpha, gradient=gradient)
        sums = {key: value.clone().requires_grad_() for key, value in SUMS.items()}
        solopo_loss(sums, refs, LENGTHS, TWINS, objective)[0].sum().backward()
        gradients[gradient] = sums["chosen"].grad.item()
    assert gradients["long"] < 0  # L_PO alone raises it
    if alpha < 1:
        assert gradients["capped"] == pytest.approx(gradients["both"], rel=1e-6) and gradients["both"] < 0
    else:
        assert gradients["both"] > 0 and gradients["capped"] == pytest.approx(0, abs=1e-6)


def test_pulls_by_hand():
    """SimPO, margin -1 + 3 = 2 less gamma 0.5: d L / d mean = -beta * sigmoid(-1.5); rewards have the slope beta."""
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0, gamma=0.5))
    found = pulls(SUMS, None, LENGTHS, TWINS, objective)
    assert found.preference["chosen"].item() == pytest.approx(-2 / (1 + math.exp(1.5)), rel=1e-6)
    assert found.short_reward["chosen"].item() == found.long_reward["chosen"].item() == 2.0
    # ORPO's slope is 1 / (1 - p) with p = exp(-0.75) on the long context.
    orpo = pulls(SUMS, None, LENGTHS, TWINS, Objective(ALGORITHMS["orpo"]))
    assert orpo.long_reward["chosen"].item() == pytest.approx(1 / (1 - math.exp(-0.75)), rel=1e-5)


@pytest.mark.parametrize(
    "gradient, alpha, long_sum, turned",
    [
        ("both", 0.18, -3.0, 0.0),  # L_PO pulls with beta * sigmoid(-1.5) = 2 * 0.182, the alignment with 2 * alpha
        ("both", 0.19, -3.0, 1.0),
        ("both", 3.0, -1.0, 0.0),  # the long reward leads: both terms raise the short one
        ("both", 3.0, -3.0, 1.0),
        ("capped", 3.0, -3.0, None),
        ("long", 3.0, -3.0, None),
        ("one_sided", 3.0, -3.0, None),
    ],
)
def test_an_example_is_turned_around_where_its_short_answer_falls_against_the_preference_loss(
    gradient, alpha, long_sum, turned
):
    objective = Objective(ALGORITHMS["simpo"], Hyperparameters(beta=2.0, gamma=0.5), alpha=alpha, gradient=gradient)
    sums = SUMS | {"chosen_long": tensor([long_sum])}
    sums = {name: value.clone().requires_grad_() for name, value in sums.items()}
    losses, metrics = solopo_loss(sums, None, LENGTHS, TWINS, objective)
    losses.sum().backward()
    found = metrics.get("rewards/chosen_turned")
    assert (found.item() if found is not None else None) == turned
    if turned is not None:  # what the word says: the whole loss lowers the answer
        assert (sums["chosen"].grad.item() > 0) == bool(turned)
