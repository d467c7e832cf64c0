"""Runs that are killed go on to the losses of an undisturbed one, and a job that loses a worker ends."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.runs import (
    ROOT,
    command_environment,
    kill_family,
    make_rows,
    needs_compiler,
    read_logs,
    run_forked,
    write_dataset,
)


pytestmark = pytest.mark.slow
STEPS = 12


def logged_step(output: Path, step: int) -> dict:
    return {"file": str(output / "trainer_log.jsonl"), "holds": f'"current_steps": {step},'}


@pytest.mark.timeout(1600)
def test_kill_9_at_any_moment(arguments, tmp_path):
    """While preprocessing, in the reference pass, at random steps and while a checkpoint is written."""
    write_dataset(tmp_path / "data", make_rows(400))

    def args(name: str) -> dict:
        return arguments(
            dataset_dir=str(tmp_path / "data"),
            pref_loss="sigmoid",
            max_steps=STEPS,
            save_strategy="steps",
            save_steps=1,
            output_dir=str(tmp_path / name),
            tokenized_path=str(tmp_path / f"{name}-tokenized"),
        )

    kills = {
        "reference": {"file": str(tmp_path / "runs" / "reference, killed.log"), "holds": "Reference log-probs:  "}
    }
    for step in random.Random(0).sample(range(1, STEPS), 3):
        kills[f"step {step}"] = logged_step(tmp_path / f"step {step}", step)
    for name, text in {
        "converting": "Converting format of dataset",
        "tokenising": "Running tokenizer on dataset",
    }.items():
        kills[name] = {"file": str(tmp_path / "runs" / f"{name}, killed.log"), "holds": text}
    kills["tokenized_path"] = {"file": str(tmp_path / "tokenized_path-tokenized.unfinished")}
    for part in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
        kills[part] = {"file": str(tmp_path / part / "checkpoint-5" / part)}

    jobs = {}
    for name, kill in kills.items():  # the reference pass first: the others find its log-probs
        jobs |= {f"{name}, killed": {"args": args(name), "kill": kill}, f"{name}, resumed": {"args": args(name)}}
    jobs["whole"] = {"args": args("whole")}
    codes = run_forked(jobs, tmp_path / "runs")
    expected = read_logs(str(tmp_path / "whole"))
    assert len(expected) == STEPS
    for name in kills:
        assert codes[f"{name}, killed"] == [-signal.SIGKILL], name
        assert codes[f"{name}, resumed"] == [0], (tmp_path / "runs" / f"{name}, resumed.log").read_text()[-3000:]
        logs = read_logs(str(tmp_path / name))
        assert [log["loss"] for log in logs] == pytest.approx([log["loss"] for log in expected], rel=1e-6), name


@needs_compiler
@pytest.mark.timeout(1600)
def test_kill_9_of_two_processes(arguments, tmp_path):
    """ZeRO-3, in the middle of the run and of a checkpoint.

    Not DDP: on a CPU, transformers loads the optimizer of several processes to "cpu:0", which torch refuses.
    """

    def job(name: str) -> dict:
        args = arguments(
            per_device_train_batch_size=1,
            max_steps=STEPS,
            save_strategy="steps",
            save_steps=2,
            output_dir=str(tmp_path / name),
            deepspeed=str(ROOT / "recipes/deepspeed/zero3.json"),
            use_cpu=False,
        )
        return {"args": args, "processes": 2, "environment": {"ACCELERATE_USE_DEEPSPEED": "true"}}

    kills = {
        "step 7": logged_step(tmp_path / "step 7", 7),
        "checkpoint": {"file": str(tmp_path / "checkpoint" / "checkpoint-4" / "global_step4")},
    }
    jobs = {"whole": job("whole")}
    for name, kill in kills.items():
        jobs |= {f"{name}, killed": {**job(name), "kill": kill}, f"{name}, resumed": job(name)}
    codes = run_forked(jobs, tmp_path / "runs")
    expected = read_logs(str(tmp_path / "whole"))
    assert len(expected) == STEPS
    for name in kills:
        assert codes[f"{name}, killed"] == [-signal.SIGKILL] * 2, name
        log = (tmp_path / "runs" / f"{name}, resumed.log").read_text()
        assert codes[f"{name}, resumed"] == [0, 0] and "Resuming training from" in log, log[-3000:]
        logs = read_logs(str(tmp_path / name))
        for key in ("loss", "grad_norm", "rewards/gap"):
            assert [each[key] for each in logs] == pytest.approx([each[key] for each in expected], rel=1e-5), name


def start(args: dict, folder: Path, **environment: str) -> subprocess.Popen:
    """`llamafactory-cli train` in the background; what it says goes to `folder`/log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(args))
    with open(folder / "log", "w") as log:
        return subprocess.Popen(
            ["llamafactory-cli", "train", str(folder / "config.yaml")],
            env=command_environment(FORCE_TORCHRUN="1", **environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )


def test_a_lost_worker_ends_the_job(arguments, tmp_path):
    args = arguments(max_steps=100_000, num_train_epochs=100_000)
    process = start(args, tmp_path / "launch", NPROC_PER_NODE="2")
    try:
        log = Path(args["output_dir"], "trainer_log.jsonl")
        deadline = time.monotonic() + 500
        while not log.is_file() or not log.stat().st_size:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.environ().get("LOCAL_RANK") == "1"
        ]
        os.kill(workers[0].pid, signal.SIGKILL)
        assert process.wait(timeout=120) != 0
        assert "Signal 9 (SIGKILL) received" in (tmp_path / "launch" / "log").read_text()
        assert not any(worker.is_running() for worker in workers)
    finally:
        kill_family(process)


def test_two_nodes_of_one_process_each(arguments, tmp_path):
    """The losses of one process with the batch of both, and only the first node writes."""
    common = {"pref_loss": "sigmoid", "disable_shuffling": True, "max_steps": 3}
    with_two = {"per_device_train_batch_size": 1, **common}
    nodes, outputs = [], [tmp_path / "node-0", tmp_path / "node-1"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    for rank, output in enumerate(outputs):
        environment = {
            "NNODES": "2",
            "NODE_RANK": str(rank),
            "NPROC_PER_NODE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "HF_HOME": str(tmp_path / f"cache-{rank}"),  # its own disk
        }
        args = arguments(output_dir=str(output), **with_two)
        nodes.append(start(args, tmp_path / f"launch-{rank}", **environment))
    try:
        for rank, node in enumerate(nodes):
            code = node.wait(timeout=500)
            assert code == 0, (tmp_path / f"launch-{rank}" / "log").read_text()[-5000:]
    finally:
        for node in nodes:
            kill_family(node)
    one = arguments(output_dir=str(tmp_path / "one"), per_device_train_batch_size=2, **common)
    assert run_forked({"one": {"args": one}}, tmp_path / "runs") == {"one": [0]}
    ours, expected = read_logs(str(outputs[0])), read_logs(one["output_dir"])
    assert [log["loss"] for log in ours] == pytest.approx([log["loss"] for log in expected], rel=1e-5)
    assert not (outputs[1] / "trainer_state.json").exists()


@needs_compiler
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("batch_size, count", [(2, 5), (3, 7), (4, 3)])
def test_uneven_batches(batch_size, count, arguments, tmp_path):
    """Rows that neither batches nor processes divide: accelerate repeats some, and each micro-batch is the mean of its
    own. Without a learning rate, an example's loss is the same in every run."""
    write_dataset(tmp_path / "data", make_rows(count))
    common = {"dataset_dir": str(tmp_path / "data"), "disable_shuffling": True, "learning_rate": 0.0, "max_steps": -1}
    zero3 = {"deepspeed": str(ROOT / "recipes/deepspeed/zero3.json"), "use_cpu": False}

    def args(name: str, size: int, **changes) -> dict:
        output = str(tmp_path / name)
        return arguments(output_dir=output, per_device_train_batch_size=size, num_train_epochs=1, **common) | changes

    jobs = {
        "one": {"args": args("one", 1)},
        "DDP": {"args": args("DDP", batch_size), "processes": 2},
        "ZeRO-3": {
            "args": args("ZeRO-3", batch_size, **zero3),
            "processes": 2,
            "environment": {"ACCELERATE_USE_DEEPSPEED": "true"},
        },
    }
    assert run_forked(jobs, tmp_path / "runs") == {"one": [0], "DDP": [0, 0], "ZeRO-3": [0, 0]}
    each = [log["loss"] for log in read_logs(str(tmp_path / "one"))]
    assert len(each) == count

    batches = [list(range(first, min(first + batch_size, count))) for first in range(0, count, batch_size)]
    repeated = [row for batch in batches for row in batch]
    while len(batches[-1]) < batch_size or len(batches) % 2:
        if len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(repeated[(sum(map(len, batches)) - count) % count])
    micro = [sum(each[row] for row in batch) / batch_size for batch in batches]
    expected = [(first + second) / 2 for first, second in zip(micro[::2], micro[1::2])]
    for name in ("DDP", "ZeRO-3"):
        losses = [log["loss"] for log in read_logs(str(tmp_path / name))]
        assert losses == pytest.approx(expected, rel=1e-5), name
