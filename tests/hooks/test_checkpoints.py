"""A half-written checkpoint is never resumed from."""

import pytest
import torch

from solopo_llamafactory.hooks.checkpoints import check_complete, last_complete_checkpoint, what_is_missing


def write_checkpoint(folder, step: int, world_size: int = 1, deepspeed: bool = False):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    if deepspeed:
        states = checkpoint / f"global_step{step}"
        states.mkdir()
        (checkpoint / "latest").write_text(states.name)
        for rank in range(world_size):
            torch.save({}, states / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    else:
        torch.save({}, checkpoint / "optimizer.pt")
    names = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    for name in names:
        torch.save({}, checkpoint / name)
    return checkpoint


def test_the_newest_complete_one_is_taken(tmp_path):
    for step in (8, 10, 100):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-final").mkdir()
    assert last_complete_checkpoint(str(tmp_path)).endswith("checkpoint-100")


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "rng_state.pth"])
@pytest.mark.parametrize("how", ["absent", "half"])
def test_an_incomplete_one_is_passed_over(missing, how, tmp_path):
    write_checkpoint(tmp_path, 2)
    path = write_checkpoint(tmp_path, 4) / missing
    content = path.read_bytes()
    path.unlink()
    if how == "half":
        path.write_bytes(content[: len(content) // 2])
    assert last_complete_checkpoint(str(tmp_path)).endswith("checkpoint-2")
    with pytest.raises(ValueError, match=missing):
        check_complete(str(path.parent))


def test_nothing_complete_means_a_fresh_start(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    assert last_complete_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize("deepspeed", [False, True])
def test_every_rank_must_have_saved(deepspeed, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    checkpoint = write_checkpoint(tmp_path, 2, world_size=2, deepspeed=deepspeed)
    assert what_is_missing(checkpoint, world_size=2) is None
    (checkpoint / "rng_state_1.pth").unlink()
    assert what_is_missing(checkpoint, world_size=2) == "rng_state_1.pth"
    if deepspeed:
        (checkpoint / "global_step2" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
        assert "rank_1" in what_is_missing(checkpoint, world_size=2)


def test_another_number_of_processes_is_no_fresh_start(tmp_path, monkeypatch):
    """Else the run starts at step 0 beside the checkpoint, and save_total_limit deletes it."""
    write_checkpoint(tmp_path, 4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="was written by 1 process"):
        last_complete_checkpoint(str(tmp_path))


def test_deepspeed_without_sharding_keeps_its_optimizer_with_the_model(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 2, deepspeed=True)
    states = checkpoint / "global_step2"
    (states / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    assert what_is_missing(checkpoint, world_size=1) == "global_step2/mp_rank_00_model_states.pt"
    torch.save({}, states / "mp_rank_00_model_states.pt")
    assert what_is_missing(checkpoint, world_size=1) is None


def test_a_checkpoint_that_does_not_exist():
    with pytest.raises(ValueError, match="does not exist"):
        check_complete("nowhere/checkpoint-3")
