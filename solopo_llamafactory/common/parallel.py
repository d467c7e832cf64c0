"""Work spread over processes, in order."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from .errors import SolopoError


MAX_WORKERS = 16
BATCH = 32  # tasks of a process at a time


def number_of_workers(wanted: int | None) -> int:
    """How many processes share the work: `preprocessing_num_workers`, or the number of cores, at most 16."""
    return wanted or min(MAX_WORKERS, os.cpu_count() or 1)


_make: Callable | None = None  # in a forked process: what it inherited
_tasks: Sequence = ()


def map_in_order(make: Callable, tasks: Sequence, workers: int, batch_size: int = BATCH) -> Iterator:
    """`map`, spread over forked processes that share the pool of documents; in order, and not far ahead of the reader.

    Args:
        batch_size: tasks of a process at a time.
    """
    if workers == 1 or len(tasks) <= batch_size:
        yield from map(make, tasks)
        return
    global _make, _tasks
    _make, _tasks = make, tasks
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _prepare_process) as processes:
            indices = iter(range(len(tasks)))
            while batch := list(islice(indices, 4 * batch_size * workers)):
                yield from processes.map(_make_one, batch, chunksize=batch_size)
    except BrokenProcessPool:
        raise SolopoError(
            "a process that makes contexts was killed, perhaps for lack of memory: write fewer "
            f"preprocessing_num_workers ({workers} now)."
        ) from None
    finally:
        _make, _tasks = None, ()


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread a process, and no warning about the fork


def _make_one(index: int):
    return _make(_tasks[index])
