"""Runs of the miniature side by side, in processes that import LLaMA-Factory once each, spread over all GPUs."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import torch


T = TypeVar("T")


class Pool:
    """Runs tasks in `workers` processes, or one after another in this one where there is a single worker and one GPU at most.

    What the processes print goes to `folder`/worker-PID.log.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        gpus = visible_gpus()
        self._here = workers == 1 and len(gpus) <= 1  # the host's trainer takes all GPUs that it sees
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
        self._environments = [threads | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:workers]] or [threads]
        places = len(self._environments)
        shares = [(workers + place) // places for place in range(places)]
        self._executors = [ProcessPoolExecutor(n, get_context("spawn"), partial(_log_to, folder)) for n in shares]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind, error, trace) -> None:
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)

    def run(self, name: str, tasks: Sequence[Callable[[], T]], alone: bool = False) -> list[T]:
        """The results of all tasks; the first that fails ends it.

        Args:
            tasks: must pickle where there are several workers.
            alone: one after another, so that they can be timed.
        """
        from tqdm import tqdm

        if self._here:
            return [task() for task in tasks]
        futures = []
        with tqdm(desc=name, total=len(tasks), dynamic_ncols=True) as progress:
            for i, task in enumerate(tasks):
                futures.append(self._submit(task, 0 if alone else i % len(self._executors)))
                futures[-1].add_done_callback(lambda future: progress.update())
                if alone:
                    futures[-1].result()
            for future in as_completed(futures):
                future.result()
        return [future.result() for future in futures]

    def _submit(self, task: Callable[[], T], place: int) -> Future:
        with patch.dict(os.environ, self._environments[place]):  # a process that is started here inherits it
            return self._executors[place].submit(task)


def visible_gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return named.split(",")[:count]


def _log_to(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
