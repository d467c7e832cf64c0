"""The collapse guard warns when the gap closes from the wrong side, once, and not when it closes from the right one."""

from types import SimpleNamespace

import pytest

from solopo_llamafactory.train import collapse
from solopo_llamafactory.train.collapse import CollapseGuard


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    messages = []
    monkeypatch.setattr(collapse.logger, "warning_rank0", messages.append)
    return messages


def run(short_rewards: list[float], long_rewards: list[float]) -> None:
    callback = CollapseGuard(SimpleNamespace(solopo_alpha=4.0))
    for short, long in zip(short_rewards, long_rewards):
        logs = {"loss": 1.0, "rewards/chosen": short, "rewards/gap": abs(short - long)}
        callback.on_log(SimpleNamespace(learning_rate=1e-3), None, None, logs=logs)


def line(start: float, end: float, steps: int = 20) -> list[float]:
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


def test_a_falling_short_reward_is_named_once(warnings):
    run(line(-1, -3), line(-3, -3.1))
    assert len(warnings) == 1
    assert (
        "solopo_alpha" in warnings[0]
        and "learning_rate" in warnings[0]
        and "solopo_gradient: one_sided" in warnings[0]
    )


def test_a_rising_long_reward_is_the_goal(warnings):
    run(line(-1, -1), line(-3, -1))
    assert warnings == []


def test_a_gap_that_stays_is_no_collapse(warnings):
    run(line(-1, -3), line(-3, -5))
    assert warnings == []


def test_no_gap_at_the_start_is_no_collapse(warnings):
    run(line(0, -0.01), line(0, -0.01))
    assert warnings == []


def test_a_resumed_run_began_where_it_began(warnings):
    callback = CollapseGuard(SimpleNamespace(solopo_alpha=4.0))
    args = SimpleNamespace(learning_rate=1e-3)
    logs = [{"loss": 1.0, "rewards/chosen": short, "rewards/gap": short + 3.0} for short in line(-1, -3, steps=20)]
    callback.on_train_begin(args, SimpleNamespace(log_history=logs[:12]), None)
    for log in logs[12:]:
        callback.on_log(args, None, None, logs=log)
    assert len(warnings) == 1


def test_logs_of_an_evaluation_are_ignored(warnings):
    callback = CollapseGuard(SimpleNamespace(solopo_alpha=4.0))
    for _ in range(20):
        callback.on_log(None, None, None, logs={"eval_loss": 1.0})
        callback.on_log(None, None, None, logs=None)
    assert warnings == []
