"""How the stage starts and resumes inside the host's own training function."""

import pickle

import pytest

from tests.helpers.runs import last_words, run_python
from tests.hooks.test_checkpoints import write_checkpoint


def test_the_host_asks_us_only_for_our_stage(tmp_path, arguments):
    """Through the host's own parser: an incomplete newest checkpoint, and no checkpoint for another stage's rule."""
    from llamafactory.hparams import get_train_args

    output = tmp_path / "output"
    write_checkpoint(output, 2)
    (write_checkpoint(output, 4) / "rng_state.pth").unlink()
    assert get_train_args(arguments())[2].resume_from_checkpoint.endswith("checkpoint-2")
    host = get_train_args(arguments(stage="dpo", dataset="pairs_short"))
    assert host[2].resume_from_checkpoint.endswith("checkpoint-4")


def test_resume_true_means_the_newest_complete_one(tmp_path, arguments):
    from llamafactory.hparams import get_train_args

    with pytest.raises(ValueError, match="no complete checkpoint"):
        get_train_args(arguments(resume_from_checkpoint=True))
    write_checkpoint(tmp_path / "output", 6)
    assert get_train_args(arguments(resume_from_checkpoint=True))[2].resume_from_checkpoint.endswith("checkpoint-6")


def test_a_ray_worker_reaches_the_stage(arguments, tmp_path):
    """Ray pickles the driver's `tuner.Worker` by name and calls its method in a process that never ran `run_exp`."""
    from llamafactory.train import tuner

    args = arguments(max_steps=1)
    tuner.read_args(args)
    (tmp_path / "worker.pickle").write_bytes(pickle.dumps((tuner.Worker, args)))
    code = f"""
import pickle
import llamafactory.train.tuner  # a Ray process may load this first
Worker, args = pickle.load(open({str(tmp_path / "worker.pickle")!r}, "rb"))
worker = Worker.__new__(Worker)  # its __init__ wants a GPU
worker._training_function({{"args": args, "callbacks": []}})
"""
    result = run_python(code)
    assert result.returncode == 0, last_words(result)
    assert "loss/solo_ra" in (tmp_path / "output" / "trainer_state.json").read_text()
