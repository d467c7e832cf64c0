"""Trainings one after the other, each in forked processes, so that the host is imported once for all of them.

    python tests/helpers/forked_runs.py jobs.json

`jobs.json` holds runs by name: `args` (the host's arguments), `log` (a file for what the processes say) and, where
needed, `processes` (default 1), `environment`, and `kill`: `{"file": ..., "holds": ...}` ends the run with kill -9 as
soon as the file exists and, where `holds` is given, has that text. Prints the exit codes by name as JSON. A process that
outlives SECONDS is killed with 15 instead of 9.
"""

import json
import multiprocessing
import os
import socket
import sys
import time
import traceback
from pathlib import Path


SECONDS = 400  # of one run, on a busy machine


def run_rank(job: dict, rank: int, port: int) -> None:
    """One process of a run."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job.get("processes", 1) > 1:
        count = str(job["processes"])
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= job.get("environment", {})
    if "ACCELERATE_USE_FSDP" in os.environ:
        import fsdp_on_cpu
        from accelerate.state import AcceleratorState

        AcceleratorState.__init__ = fsdp_on_cpu.choose_fsdp
    from llamafactory.train.tuner import run_exp

    code = 1
    try:
        run_exp(job["args"])
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())  # at once: several processes write here
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(0.5)  # for gloo's threads, see quiet_exit/sitecustomize.py
    os._exit(code)


def is_time(kill: dict) -> bool:
    path = Path(kill["file"])
    return path.exists() and ("holds" not in kill or kill["holds"] in path.read_text(errors="replace"))


def run_job(job: dict) -> list[int]:
    """The exit codes of a run's processes."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run_rank, args=(job, rank, port)) for rank in range(job.get("processes", 1))]
    for rank in ranks:
        rank.start()
    deadline = time.monotonic() + SECONDS
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.001)
        if "kill" in job and is_time(job["kill"]):
            for rank in ranks:
                rank.kill()
            break
    else:
        for rank in ranks:
            rank.terminate()
    for rank in ranks:
        rank.join(10)
        rank.kill()
    return [rank.exitcode for rank in ranks]


if __name__ == "__main__":
    import llamafactory.train.tuner  # noqa: F401  once, before the forks

    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    print(json.dumps({name: run_job(job) for name, job in jobs.items()}))
