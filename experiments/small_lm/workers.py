"""Tasks side by side, each GPU taking the next one: a process a GPU, which imports LLaMA-Factory once."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True)
class Task:
    """A call of a method of `Workspace`; its arguments must pickle."""

    method: str
    arguments: tuple = ()
    name: str = field(default="", compare=False)


def call(workspace: dict, task: Task) -> Any:
    """Do a task here. The module that is imported takes long, and only who works needs it."""
    from .runs import Workspace

    return getattr(Workspace(**workspace), task.method)(*task.arguments)


class Workers:
    """A process for each GPU; without a GPU tasks are done in this process."""

    def __init__(self, gpus: Sequence[str], workspace: dict, folder: Path) -> None:
        self._gpus, self._workspace = gpus, workspace
        self._executors = [ProcessPoolExecutor(1, get_context("spawn"), partial(_log_to, folder)) for _ in gpus]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind, error, trace) -> None:
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)

    def run(
        self,
        tasks: Sequence[Task],
        done: Callable[[Task, Any], None] = lambda task, result: None,
        fits: Callable[[Task], bool] = lambda task: True,
    ) -> list[Task]:
        """Do the tasks, the first ones first; one that fails is told of and leaves the others alone.

        Args:
            done: called with each result, one at a time.
            fits: whether there is time for a task.

        Returns:
            Those that failed or did not fit.
        """
        left, failed, lock = list(tasks), [], threading.Lock()

        def take() -> Task | None:
            with lock:
                task = next(filter(fits, left), None)
                if task is not None:
                    left.remove(task)
                return task

        def work(place: int | None) -> None:
            while (task := take()) is not None:
                try:
                    result = self._do(task, place)
                except Exception as error:
                    with lock:
                        failed.append(task)
                        print(
                            f"{task.name or task.method} failed:", *traceback.format_exception(error), file=sys.stderr
                        )
                    if isinstance(error, BrokenProcessPool):
                        return
                else:
                    with lock:
                        done(task, result)

        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(self._executors))]
        for thread in threads:
            thread.start()
        if not threads:
            work(None)
        for thread in threads:
            thread.join()
        return failed + left

    def _do(self, task: Task, place: int | None) -> Any:
        if place is None:
            return call(self._workspace, task)
        with ENVIRONMENT, patch.dict(os.environ, CUDA_VISIBLE_DEVICES=self._gpus[place]):
            future = self._executors[place].submit(
                call, self._workspace, task
            )  # a process that is started inherits it
        return future.result()


ENVIRONMENT = threading.Lock()


def _log_to(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"worker_{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
