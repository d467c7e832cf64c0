"""One cell in its own process: `python -m benchmarks.worker JOB.json`, under torchrun on several GPUs.

JOB.json holds the cell, the host's arguments and the path that the measurement is written to.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial, wraps
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .cells import Cell


GIB = 2**30
PACKAGES = ("torch", "transformers", "trl", "deepspeed", "llamafactory", "accelerate", "liger-kernel", "flash-attn")


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    cell, result = Cell.of(job["cell"]), Path(job["result"])
    if cell.method == "ceiling":
        write_result(result, measure_ceiling(cell))
    else:
        measure_training(cell, job["arguments"], result)


def write_result(path: Path, measurement: dict[str, Any]) -> None:
    path.write_text(json.dumps(measurement | {"versions": versions()}))


def versions() -> dict[str, str]:
    """Versions of what took part, of those that are installed."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def measure_ceiling(cell: Cell) -> dict[str, Any]:
    """The mean of ten square matrix products on random data after three warm-ups, in TFLOP/s."""
    device, dtype = ("cpu", torch.float32) if cell.on_cpu else ("cuda", torch.bfloat16)
    size = cell.length
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronize()
    seconds = (time.perf_counter() - start) / 10
    return {"seconds": [seconds], "median_seconds": seconds, "tflops": 2 * size**3 / seconds / 1e12}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_training(cell: Cell, arguments: dict[str, Any], result: Path) -> None:
    """Run the host's training function with `Measurement` as a callback."""
    if cell.method != "host":  # also where the package is on the path without being installed
        import solopo_llamafactory

        solopo_llamafactory.enable()

    from llamafactory.train.tuner import run_exp
    from transformers import AutoModelForCausalLM, Trainer

    if not cell.on_cpu and not cell.uses_deepspeed:  # billions of random numbers take minutes on a CPU
        from_config = AutoModelForCausalLM.from_config

        def on_gpu(*args, **kwargs):
            with torch.device("cuda"):
                return from_config(*args, **kwargs)

        AutoModelForCausalLM.from_config = on_gpu

    measurement = make_measurement(cell, result)
    train = Trainer.train

    @wraps(train)
    def measured_train(self, *args, **kwargs):
        measurement.trainer = self
        if cell.suite == "forward_backward":
            self.training_step = measurement.around(self.training_step)
            keep_gradients(self)
        if hasattr(self, "complete_reference_table"):
            self.complete_reference_table = measurement.around_reference(self.complete_reference_table)
        return train(self, *args, **kwargs)

    Trainer.train = measured_train
    Trainer.save_model = lambda self, *args, **kwargs: None  # random weights of no use
    run_exp(arguments, callbacks=[measurement])


def keep_gradients(trainer) -> None:
    """Gradients stay allocated, as with accumulation: the step's peak is then over weights and gradients."""
    trainer.model.zero_grad = partial(trainer.model.zero_grad, set_to_none=False)


def make_measurement(cell: Cell, result: Path):
    from transformers import TrainerCallback

    class Measurement(TrainerCallback):
        """Seconds, memory and loss of each step, written to `result` when training ends."""

        def __init__(self) -> None:
            self.trainer = None
            self.seconds: list[float] = []
            self.losses: list[float] = []
            self.allocated = self.reserved = self.used = 0  # bytes, the largest so far
            self.reference_seconds: float | None = None
            self.in_step = False
            self.reset_peak = torch.cuda.reset_peak_memory_stats
            # Whoever resets the counters within a step: what they held until then counts.
            torch.cuda.reset_peak_memory_stats = lambda *args, **kwargs: (self.read_peak(), self.reset_peak())

        def read_peak(self) -> None:
            if not self.in_step:
                return
            self.allocated = max(self.allocated, torch.cuda.max_memory_allocated())
            self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())

        def begin(self) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
                self.reset_peak()
            self.in_step = True
            self.started = time.perf_counter()

        def end(self) -> None:
            synchronize()
            self.seconds.append(time.perf_counter() - self.started)
            if torch.cuda.is_available():
                self.read_peak()
                free, total = torch.cuda.mem_get_info()
                self.used = max(self.used, total - free)
            self.in_step = False

        def around(self, step: Callable) -> Callable:
            @wraps(step)
            def timed_step(*args, **kwargs):
                self.begin()
                output = step(*args, **kwargs)
                self.end()
                return output

            return timed_step

        def around_reference(self, compute: Callable) -> Callable:
            @wraps(compute)
            def timed_compute(*args) -> None:
                synchronize()
                start = time.perf_counter()
                examples = compute(*args)
                synchronize()
                self.reference_seconds = (time.perf_counter() - start) / examples

            return timed_compute

        def on_step_begin(self, *args, **kwargs) -> None:
            if cell.suite != "forward_backward":
                self.begin()

        def on_step_end(self, *args, **kwargs) -> None:
            if cell.suite != "forward_backward":
                self.end()

        def on_log(self, args, state, control, logs=None, **kwargs) -> None:
            if "loss" in logs:
                self.losses.append(logs["loss"])

        def on_train_end(self, *args, **kwargs) -> None:
            states = weights_and_gradients(self.trainer)
            mine = (self.seconds, self.allocated, self.reserved, self.used, states)
            ranks = [mine]
            if dist.is_initialized():
                ranks = [None] * dist.get_world_size()
                dist.all_gather_object(ranks, mine)
            if self.trainer.is_world_process_zero():
                extra = {"losses": self.losses, "reference_seconds_per_example": self.reference_seconds}
                write_result(result, summarize(cell, ranks) | extra)

    return Measurement()


def weights_and_gradients(trainer) -> float:
    """Bytes of all weights on the training device and of the gradients of those that are trained, on this process."""
    models = [model for model in (trainer.model, getattr(trainer, "ref_model", None)) if model is not None]
    size = 0.0
    for model in models:
        for weight in model.parameters():
            count = weight.numel()
            if hasattr(weight, "ds_numel"):  # ZeRO-3 shards it
                count = weight.ds_numel / dist.get_world_size()
            elif weight.device.type != trainer.args.device.type:
                continue
            size += count * weight.element_size() * (2 if weight.requires_grad else 1)
    return size


def summarize(cell: Cell, ranks: list[tuple]) -> dict[str, Any]:
    """One measurement of all processes' (seconds, allocated, reserved, used, weights and gradients): the largest."""
    all_seconds, *memory = zip(*ranks)
    seconds = [max(step) for step in zip(*all_seconds)][cell.warmup :]
    row = {"seconds": seconds, "median_seconds": statistics.median(seconds)}
    names = ("peak_allocated_gib", "peak_reserved_gib", "used_gib", "weights_and_gradients_gib")
    if cell.on_cpu:
        return row | dict.fromkeys([*names, "step_memory_gib"])
    row |= {name: round(max(values) / GIB, 2) for name, values in zip(names, memory)}
    # With an optimizer its states would have to be taken off, too.
    step_memory = round(row["peak_allocated_gib"] - row["weights_and_gradients_gib"], 2)
    return row | {"step_memory_gib": step_memory if cell.suite == "forward_backward" else None}


def job_of(cell: Cell, arguments: dict[str, Any], result: Path) -> dict[str, Any]:
    """The content of JOB.json."""
    return {"cell": asdict(cell), "arguments": arguments, "result": str(result)}


if __name__ == "__main__":
    main()
