"""Two processes give what one gives, through the host's own launcher."""

import json
import os
import subprocess
import time

import psutil
import pytest

from conftest import ROOT, command_environment, launch, make_rows, needs_compiler, read_logs, run_host, write_dataset


KEYS = ("loss", "grad_norm", "loss/po", "loss/solo_ra", "rewards/gap", "logps/chosen_long")


def assert_same_logs(ours: list[dict], expected: list[dict], rel: float = 1e-5) -> None:
    assert len(ours) == len(expected) > 0
    for log, other in zip(ours, expected):
        for key in KEYS:
            assert log[key] == pytest.approx(other[key], rel=rel, abs=1e-6), key


@pytest.fixture
def with_evaluation(arguments, tmp_path):
    """A run on 8 examples with an evaluation on 7, which neither 2 nor 4 divides."""
    write_dataset(tmp_path / "data", make_rows(8))
    write_dataset(tmp_path / "data", make_rows(7, seed=1), name="held_out")

    def build(name: str, **overrides) -> dict:
        return arguments(
            dataset_dir=str(tmp_path / "data"),
            eval_dataset="held_out",
            do_eval=True,
            disable_shuffling=True,
            pref_loss="sigmoid",
            solopo_reference="short",
            max_steps=4,
            output_dir=str(tmp_path / name),
            **overrides,
        )

    return build


def evaluation(args: dict) -> dict:
    with open(os.path.join(args["output_dir"], "eval_results.json")) as file:
        return {key: value for key, value in json.load(file).items() if "runtime" not in key and "second" not in key}


def test_two_processes_equal_one(with_evaluation, tmp_path):
    """DDP: the global batch divides the data, and repeated rows at the end of the evaluation count once."""
    one = with_evaluation("one", per_device_train_batch_size=4, per_device_eval_batch_size=1)
    run_host(one)
    two = with_evaluation("two", per_device_train_batch_size=2, per_device_eval_batch_size=4)
    result = launch(two, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Using padded batches" not in result.stdout
    assert_same_logs(read_logs(two["output_dir"]), read_logs(one["output_dir"]))
    assert evaluation(two) == pytest.approx(evaluation(one), rel=1e-5, abs=1e-6)


@needs_compiler
def test_zero3_equals_one_process(arguments, tmp_path):
    """DeepSpeed ZeRO-3 on the CPU in float32, with the recipes' own configuration and a reference model."""
    common = {"pref_loss": "sigmoid", "disable_shuffling": True}
    one = arguments(per_device_train_batch_size=4, output_dir=str(tmp_path / "one"), **common)
    run_host(one)
    zero3 = arguments(
        per_device_train_batch_size=2,
        deepspeed=str(ROOT / "recipes/deepspeed/zero3.json"),
        use_cpu=False,  # with it, DeepSpeed counts one process
        output_dir=str(tmp_path / "zero3"),
        **common,
    )
    result = launch(zero3, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Using padded batches" not in result.stdout
    assert_same_logs(read_logs(zero3["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)


@pytest.mark.slow
def test_uneven_batches_do_not_hang(arguments, tmp_path):
    """5 rows over two processes in batches of 2: accelerate repeats rows, every number stays finite."""
    write_dataset(tmp_path / "data", make_rows(5))
    args = arguments(dataset_dir=str(tmp_path / "data"), max_steps=-1, num_train_epochs=2)
    result = launch(args, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, result.stderr[-3000:]
    logs = read_logs(args["output_dir"])
    assert len(logs) == 4
    assert all(abs(log[key]) < 1e3 for log in logs for key in KEYS)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one process", "ZeRO-3"])
def test_killed_after_a_checkpoint_it_resumes(mode, arguments, tmp_path):
    """kill -9 as soon as a checkpoint stands: the same command goes on to the uninterrupted run's losses.

    Not with DDP: on a CPU, transformers loads the optimizer of several processes to "cpu:0", which torch refuses.
    """
    common = {"max_steps": 30, "save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 1}
    environment = {}
    if mode == "ZeRO-3":
        environment["NPROC_PER_NODE"] = "2"
        common |= {"deepspeed": str(ROOT / "recipes/deepspeed/zero3.json"), "use_cpu": False}
    whole = arguments(output_dir=str(tmp_path / "whole"), **common)
    assert launch(whole, tmp_path / "launch", **environment).returncode == 0

    killed = arguments(output_dir=str(tmp_path / "killed"), **common)
    config = tmp_path / "launch" / "killed.yaml"
    config.write_text(json.dumps(killed))
    process = subprocess.Popen(
        ["llamafactory-cli", "train", str(config)],
        env=command_environment(**environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "checkpoint-6").is_dir():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    # torchrun's workers are in sessions of their own: end each of them, not only the command.
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)

    result = launch(killed, tmp_path / "launch", **environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Resuming training from" in result.stdout + result.stderr
    assert_same_logs(read_logs(killed["output_dir"]), read_logs(whole["output_dir"]))
