"""The collapse guard warns once of the risk and once of the damage, and not of a run that does what it should."""

from types import SimpleNamespace

import pytest

from solopo_llamafactory.train import collapse
from solopo_llamafactory.train.collapse import CollapseGuard


ARGS = SimpleNamespace(learning_rate=1e-3)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    messages = []
    monkeypatch.setattr(collapse.logger, "warning_rank0", messages.append)
    return messages


def guard() -> CollapseGuard:
    return CollapseGuard(SimpleNamespace(solopo_alpha=4.0))


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


def test_a_rising_long_reward_is_the_goal(warnings):
    run(line(-1, -1), line(-3, -1))
    assert warnings == []


def test_a_gap_that_stays_is_no_collapse(warnings):
    run(line(-1, -3), line(-3, -5))
    assert warnings == []


def test_a_gap_that_stays_is_one_where_the_alignment_turns_most_examples(warnings):
    """So a collapse is told before the gap has closed, and no risk is told beside it."""
    run(line(-1, -6), line(-3, -8), turned=0.8)
    assert len(warnings) == 1 and "fell by" in warnings[0]


def test_most_examples_turned_around_is_a_risk_also_where_rewards_look_well(warnings):
    """As SmolLM2-135M's rewards did while its answers fell apart."""
    run(line(-1, -0.9), line(-3, -2.5), turned=0.9)
    assert len(warnings) == 1 and "90%" in warnings[0] and "solopo_probe: 32" in warnings[0]


def test_some_examples_turned_around_are_none(warnings):
    """Where both contexts give about the same reward, half of the examples lag by chance."""
    run(line(-1, -0.9), line(-1, -0.9), turned=0.5)
    assert warnings == []


def test_damage_is_told_after_the_risk(warnings):
    run(line(-1, -1, 12) + line(-1, -4, 12), line(-3, -3, 12) + line(-3, -4, 12), turned=0.8)
    assert len(warnings) == 2 and "80%" in warnings[0] and "fell by" in warnings[1]


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
    assert warnings and "fell by" in warnings[-1]


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


def test_the_literal_formula_is_told_of_from_the_tenth_log_on(train, warnings):
    """Every example whose long reward lags is turned around: the alignment's pull is 1 / (1 - p) > 1."""
    logs = train(max_steps=10, solopo_gradient="both", solopo_alpha=4.0)
    turned = sum(log["rewards/chosen_turned"] for log in logs) / len(logs)
    assert turned > collapse.MOST
    assert len(warnings) == 1 and f"{turned:.0%}" in warnings[0]
