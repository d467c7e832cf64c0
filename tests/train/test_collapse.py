"""The collapse guard warns once of the risk and once of the damage, and not of a run that does what it should."""

from types import SimpleNamespace

import pytest

from solopo_llamafactory.train import collapse
from solopo_llamafactory.train.collapse import CollapseGuard
from tests.helpers.runs import ROOT


ARGS = SimpleNamespace(learning_rate=1e-3)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    messages = []
    monkeypatch.setattr(collapse.logger, "warning_rank0", messages.append)
    return messages


def guard(gradient: str = "both") -> CollapseGuard:
    return CollapseGuard(SimpleNamespace(solopo_alpha=4.0, solopo_gradient=gradient))


def logs_of(short_rewards: list[float], long_rewards: list[float], turned: float | None = None) -> list[dict]:
    """What a run logs; without `turned` as one whose alignment does not reach the short reward."""
    share = {} if turned is None else {"rewards/chosen_turned": turned}
    return [
        {"loss": 1.0, "rewards/chosen": short, "rewards/gap": abs(short - long), **share}
        for short, long in zip(short_rewards, long_rewards)
    ]


def run(short_rewards: list[float], long_rewards: list[float], turned: float | None = None) -> None:
    callback = guard()
    for logs in logs_of(short_rewards, long_rewards, turned):
        callback.on_log(ARGS, None, None, logs=logs)


def line(start: float, end: float, steps: int = 20) -> list[float]:
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


def test_a_falling_short_reward_is_named_once(warnings):
    run(line(-1, -3), line(-3, -3.1))
    assert len(warnings) == 1
    for advice in ("solopo_alpha", "learning_rate", "solopo_gradient: one_sided", "solopo_probe: 32"):
        assert advice in warnings[0]


def test_what_is_in_force_already_is_no_advice(warnings):
    callback = guard("one_sided")
    for logs in logs_of(line(-1, -3), line(-3, -3.1)):
        callback.on_log(ARGS, None, None, logs=logs)
    assert len(warnings) == 1 and "one_sided" not in warnings[0] and "; lower `solopo_alpha` (4.0)" in warnings[0]


def test_a_rising_long_reward_is_the_goal(warnings):
    run(line(-1, -1), line(-3, -1))
    assert warnings == []


def test_a_gap_that_stays_is_no_collapse(warnings):
    run(line(-1, -3), line(-3, -5))
    assert warnings == []


def test_a_gap_that_stays_is_one_where_the_alignment_turns_most_examples(warnings):
    """So a collapse is told before the gap has closed."""
    run(line(-1, -6), line(-3, -8), turned=0.8)
    assert len(warnings) == 2 and "80%" in warnings[0] and "fell by" in warnings[1]


def test_most_examples_turned_around_is_a_risk_also_where_rewards_look_well(warnings):
    """As SmolLM2-135M's rewards did while its answers fell apart."""
    run(line(-1, -0.9), line(-3, -2.5), turned=0.9)
    assert len(warnings) == 1 and "90%" in warnings[0] and "solopo_probe: 32" in warnings[0]


def test_some_examples_turned_around_are_none(warnings):
    """Where both contexts give about the same reward, half of the examples lag by chance."""
    run(line(-1, -0.9), line(-1, -0.9), turned=0.5)
    assert warnings == []


@pytest.mark.parametrize("logs, expected", [(4, 0), (5, 1)])
def test_the_risk_is_told_after_five_logs(logs, expected, warnings):
    run(line(-1, -1, logs), line(-3, -3, logs), turned=0.8)
    assert len(warnings) == expected


@pytest.mark.parametrize("last, expected", [(-0.4, 0), (-2.0, 1)])
def test_an_end_that_loses_half_its_probability_is_told(last, expected, warnings):
    callback = guard()
    for logs, end in zip(logs_of([-1.0] * 20, [-3.0] * 20), line(-0.1, last)):
        callback.on_log(ARGS, None, None, logs=logs | {"logps/chosen_end": end})
    assert len(warnings) == expected and all("no longer end" in warning for warning in warnings)


def test_no_gap_at_the_start_is_no_collapse(warnings):
    run(line(0, -0.01), line(0, -0.01))
    assert warnings == []


@pytest.mark.parametrize("turned, steps_before", [(None, 12), (0.8, 4)])
def test_a_resumed_run_began_where_it_began(turned, steps_before, warnings):
    callback = guard()
    logs = logs_of(line(-1, -3), [-3.0] * 20, turned)
    callback.on_train_begin(ARGS, SimpleNamespace(log_history=logs[:steps_before]), None)
    assert warnings == []
    for log in logs[steps_before:]:
        callback.on_log(ARGS, None, None, logs=log)
    assert ["fell by" in warning for warning in warnings] == ([True] if turned is None else [False, True])


def test_logs_of_an_evaluation_are_ignored(warnings):
    callback = guard()
    for _ in range(20):
        callback.on_log(None, None, None, logs={"eval_loss": 1.0, "eval_rewards/chosen_turned": 1.0})
        callback.on_log(None, None, None, logs=None)
    assert warnings == []


@pytest.mark.parametrize(
    "overrides",
    [
        {"solopo_gradient": "one_sided"},
        {"solopo_gradient": "one_sided", "pref_loss": "simpo", "pref_beta": 2.0},
        {"solopo_gradient": "one_sided", "pref_loss": "sigmoid"},
        {"solopo_gradient": "long"},
        {"solopo_gradient": "capped"},
        {"solopo_gradient": "both", "solopo_alpha": 0.1},
        {"solopo_gradient": "both", "pref_loss": "sigmoid"},  # both rewards start at 0, the gap's sign is chance
        {"solopo_view": "short"},
    ],
    ids=str,
)
def test_a_sound_run_is_left_in_peace(overrides, train, warnings):
    logs = train(max_steps=20, **overrides)
    assert len(logs) == 20
    assert warnings == []


def test_a_real_run_of_the_literal_formula_is_told_of(train, warnings):
    """Every example whose long reward lags is turned around: the alignment's pull is 4 / (1 - p) on log p."""
    logs = train(max_steps=10, solopo_gradient="both", solopo_alpha=4.0)
    shares = [log["rewards/chosen_turned"] for log in logs]
    means = [sum(shares[:logged]) / logged for logged in range(collapse.WINDOW, 11)]
    told = next(mean for mean in means if mean > collapse.MOST)
    assert f"In {told:.0%} of the examples" in warnings[0]


@pytest.mark.slow
def test_the_miniature_collapses_and_is_told_of(tmp_path, monkeypatch, warnings):
    """The demo's model, ORPO: the literal formula at a learning rate that unlearns the answers, and at one that does not."""
    from experiments.two_hop.methods import Method
    from experiments.two_hop.runs import Seed
    from experiments.two_hop.sizes import Size

    monkeypatch.chdir(ROOT)
    size = Size(0, 400, 150, 14, 16, 512, (76, 512), 4, 4)
    seed = Seed(tmp_path, size, 0)
    seed.prepare()
    told = {}
    for gradient, rate in [("both", 3.2e-3), ("both", 8e-4), ("one_sided", 8e-4)]:
        arguments = {
            "stage": "solopo",
            "dataset": "pairs",
            "pref_loss": "orpo",
            "solopo_gradient": gradient,
            "logging_steps": 1,
        }
        seed.train(Method(gradient, arguments, ()), rate)
        told[gradient, rate] = ["fell by" in warning for warning in warnings]
        warnings.clear()
    assert told == {("both", 3.2e-3): [False, True], ("both", 8e-4): [False], ("one_sided", 8e-4): []}
