"""`solopo_alpha: auto`: what it finds by hand, and that it is the same however a run is cut, resumed or spread."""

import json

import pytest
from torch import tensor

from solopo_llamafactory.train import automatic_alpha
from solopo_llamafactory.train.automatic_alpha import BALANCE, AutomaticAlpha
from solopo_llamafactory.train.objectives import Pulls
from tests.helpers.runs import read_logs


def pulls(preference: list[float], reward: list[float]) -> Pulls:
    return Pulls({"chosen": tensor(preference)}, {}, {"chosen": tensor(reward)})


def test_by_hand():
    """|-0.5| + |0.25| over 2 + 3, times the balance; the step after knows it, the step itself does not."""
    alpha = AutomaticAlpha()
    assert alpha.of_training(pulls([-0.5, 0.25], [2.0, 3.0]), last_of_step=True) == 0
    assert alpha.value == pytest.approx(BALANCE * 0.75 / 5)
    assert alpha.of_training(pulls([1.25], [5.0]), last_of_step=True) == pytest.approx(BALANCE * 0.75 / 5)
    assert alpha.value == pytest.approx(BALANCE * 2.0 / 10)


def test_it_is_kept_after_the_first_steps(monkeypatch):
    monkeypatch.setattr(automatic_alpha, "MEASURED_STEPS", 2)
    alpha = AutomaticAlpha()
    for _ in range(2):
        alpha.of_training(pulls([1.0], [2.0]), last_of_step=True)
    assert alpha.of_training(pulls([100.0], [2.0]), last_of_step=True) == BALANCE / 2
    assert alpha.value == BALANCE / 2


def test_a_step_is_measured_as_a_whole():
    whole, parts = AutomaticAlpha(), AutomaticAlpha()
    whole.of_training(pulls([1.0, 0.5], [2.0, 4.0]), last_of_step=True)
    assert parts.of_training(pulls([1.0], [2.0]), last_of_step=False) == 0
    assert parts.of_training(pulls([0.5], [4.0]), last_of_step=True) == 0
    assert parts.value == whole.value


def test_a_broken_example_does_not_spoil_it():
    alpha = AutomaticAlpha()
    alpha.of_training(pulls([float("nan"), 1.0], [float("inf"), 2.0]), last_of_step=True)
    assert alpha.value == BALANCE / 2


@pytest.mark.parametrize("pref_loss", ["orpo", "simpo", "sigmoid"])
def test_a_run_finds_and_logs_it(pref_loss, train):
    logs = train(solopo_alpha="auto", solopo_gradient="both", pref_loss=pref_loss, max_steps=3)
    assert logs[0]["alpha"] == logs[0]["loss/solo_ra"] == 0
    assert logs[1]["alpha"] > 0
    assert logs[1]["loss/solo_ra"] == pytest.approx(logs[1]["alpha"] * logs[1]["rewards/gap"], rel=1e-3)


def test_accumulation_equals_a_larger_batch(train, tmp_path):
    common = {"solopo_alpha": "auto", "max_steps": 3, "disable_shuffling": True}
    one = train(per_device_train_batch_size=4, output_dir=str(tmp_path / "4x1"), **common)
    four = train(
        per_device_train_batch_size=1, gradient_accumulation_steps=4, output_dir=str(tmp_path / "1x4"), **common
    )
    for key in ("loss", "alpha", "grad_norm"):
        assert [log[key] for log in four] == pytest.approx([log[key] for log in one], rel=1e-4)


def test_a_resumed_run_goes_on_with_it(train, tmp_path):
    common = {"solopo_alpha": "auto", "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = train(output_dir=str(tmp_path / "whole"), **common)
    state = json.loads((tmp_path / "whole/checkpoint-2/trainer_state.json").read_text())
    assert state["stateful_callbacks"]["solopo_alpha"]["steps"] == 2
    train(output_dir=str(tmp_path / "resumed"), resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"), **common)
    resumed = read_logs(str(tmp_path / "resumed"))
    assert [log["alpha"] for log in resumed] == [log["alpha"] for log in whole]
    assert [log["loss"] for log in resumed][2:] == pytest.approx([log["loss"] for log in whole][2:], rel=1e-6)
