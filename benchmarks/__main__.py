"""`python -m benchmarks --suite NAME`: run the cells of a suite that have no result yet, then write the table."""

import argparse
import json
import os
import platform
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from .cells import SUITES, Cell, suite
from .results_file import Results
from .table import write_report
from .worker import job_of
from .workload import ROOT, lengths_of, write_workload


ERROR_LINES = 12
_writing = threading.Lock()  # the first workload imports transformers, which is not made for two threads at once


def main(argv: list[str] | None = None) -> int:
    """Returns 1 when a cell has failed (running out of memory is a result, not a failure)."""
    args = parse(argv)
    if not args.tiny and shutil.which("nvidia-smi") is None:
        sys.exit("benchmarks: nvidia-smi finds no GPU here. Add --tiny for a trial on the CPU.")
    start = time.monotonic()
    gpus = args.gpus or (["0"] if args.tiny or args.suite == "forward_backward" else ["0", "1"])
    machine = machine_name(args.tiny)
    results = Results(args.results)
    cells = [cell for cell in suite(args.suite, len(gpus), args.tiny) if any(text in cell.name for text in args.only)]
    if args.trl is None:
        cells = [cell for cell in cells if cell.method != "trl"]
    free_gpus: queue.Queue[str] = queue.Queue()
    for gpu in gpus:
        free_gpus.put(gpu)
    left_out: list[str] = []
    failed: list[str] = []

    def visit(cell: Cell, all_gpus: bool) -> None:
        if results.is_done(cell, machine):
            print(f"{cell.name}: has a result", flush=True)
            return
        if results.ran_out_shorter(cell):
            print(f"{cell.name}: left out, a shorter length ran out of memory", flush=True)
            return
        if time.monotonic() - start > args.limit_seconds:
            left_out.append(cell.name)
            return
        gpu = None if all_gpus else free_gpus.get()
        try:
            row = run_cell(cell, gpus if all_gpus else [gpu], machine, args.cell_seconds, args.trl)
        finally:
            if gpu is not None:
                free_gpus.put(gpu)
        results.append(row)
        print(progress(cell, row), flush=True)
        if row["status"] == "failed":
            failed.append(cell.name)

    single = [cell for cell in cells if cell.gpus == 1]
    with ThreadPoolExecutor(len(gpus)) as pool:
        list(pool.map(lambda cell: visit(cell, all_gpus=False), single))
    for cell in cells:
        if cell not in single:
            visit(cell, all_gpus=True)

    for title, names in (("Left out, the time was over", left_out), ("Failed", failed)):
        if names:
            print(f"\n{title}: {'; '.join(names)}.")
    if results.rows:
        print(f"\n{write_report(args.results)}", flush=True)
    return int(bool(failed))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--suite", required=True, choices=SUITES)
    parser.add_argument("--results", type=Path, help="JSON lines (default: saves/benchmarks/SUITE.jsonl)")
    parser.add_argument(
        "--gpus", type=lambda text: text.split(","), help="numbers as nvidia-smi has them (default: 0, or 0,1)"
    )
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="start no cell after this time")
    parser.add_argument("--cell-seconds", type=float, default=1800, help="a cell that takes longer has failed")
    parser.add_argument("--trl", help="Python of an environment with TRL 1.16; without it TRL's cells are left out")
    parser.add_argument("--tiny", action="store_true", help="the same cells on a CPU with a tiny model")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="only cells whose name contains one of these"
    )
    args = parser.parse_args(argv)
    if args.results is None:
        args.results = ROOT / "saves" / "benchmarks" / f"{args.suite}{'_tiny' if args.tiny else ''}.jsonl"
    return args


def machine_name(tiny: bool) -> str:
    """The GPUs' name and number, or the processor's. Asks no CUDA library: that would take memory on the GPU."""
    if tiny:
        return f"{os.cpu_count()} CPU cores, {platform.machine()}"
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    return f"{len(names)} x {names[0]}"


def run_cell(cell: Cell, gpus: list[str], machine: str, limit: float, trl: str | None = None) -> dict:
    """Run one cell to its end and return its row."""
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="solopo_benchmark_"))
    result, log = folder / "result.json", folder / "log.txt"
    row = job_of(cell, {}, result)["cell"]
    row |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "gpus_used": gpus}
    try:
        with _writing:
            arguments = {} if cell.method == "ceiling" else write_workload(cell, folder)
        job = folder / "job.json"
        job.write_text(json.dumps(job_of(cell, arguments, result)))
        command = command_line(cell, job, trl)
        variables = environment(cell, gpus, folder)
        code = run_process(command, variables, log, limit)
        text = log.read_text(encoding="utf-8", errors="replace")
        settings = {name: value for name, value in variables.items() if name.startswith("PYTORCH_")}
        row |= {
            "command": repeat_command(cell),
            "arguments": without_folder(arguments, folder),
            "environment": settings,
        }
        if code == 0 and result.is_file():
            row |= {"status": "ok", **json.loads(result.read_text())}
        elif "out of memory" in text.lower():
            row |= {"status": "oom"}
        else:
            reason = f"stopped after {limit:.0f} s" if code is None else f"exit code {code}"
            row |= {"status": "failed", "error": f"{reason}\n{last_words(text)}"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if cell.method != "ceiling":
        row["examples"] = {name: column.tolist() for name, column in vars(lengths_of(cell)).items()}
    return row | {"wall_seconds": round(time.monotonic() - start, 1)}


def repeat_command(cell: Cell) -> str:
    """What measures the cell again."""
    gpus = ",".join(map(str, range(cell.gpus)))
    words = ["python", "-m", "benchmarks", "--suite", cell.suite, "--gpus", gpus, "--only", cell.name]
    words += ["--trl", "PYTHON"] if cell.method == "trl" else []
    return shlex.join([*words, "--tiny"] if cell.on_cpu else words)


def without_folder(arguments: dict, folder: Path) -> dict:
    """The arguments with paths relative to the workload, which is gone afterwards."""
    return {
        name: os.path.relpath(value, folder) if str(value).startswith(str(folder)) else value
        for name, value in arguments.items()
    }


def command_line(cell: Cell, job: Path, trl: str | None) -> list[str]:
    if cell.method == "trl":
        return [trl, "-m", "benchmarks.trl_worker", str(job)]
    launcher = [sys.executable]
    if cell.uses_deepspeed and cell.method != "ceiling":
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(cell.gpus)]
    return [*launcher, "-m", "benchmarks.worker", str(job)]


def environment(cell: Cell, gpus: list[str], folder: Path) -> dict[str, str]:
    """Of the cell's processes: its GPUs, caches of its own, and for the host's stage nothing of this package."""
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "CUDA_VISIBLE_DEVICES": "" if cell.on_cpu else ",".join(gpus),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "WANDB_DISABLED": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "DISABLE_VERSION_CHECK": "1",  # the host's; a row names the versions
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # as our stage has it; for the host's sake as well
    }
    if cell.on_cpu:
        variables["OMP_NUM_THREADS"] = "1"  # tiny tensors: more threads only wait for each other
    if cell.method == "host":
        variables["SOLOPO_DISABLE"] = "1"
    return variables


def run_process(command: list[str], variables: dict[str, str], log: Path, limit: float) -> int | None:
    """Its exit code, or None where it was stopped after `limit` seconds, with all processes it had started."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def last_words(text: str) -> str:
    """The end of the traceback that tells most: not torchrun's own, which says only that a process failed."""
    text = re.sub(r"^\[rank\d+\]: ?", "", text, flags=re.MULTILINE)
    tracebacks = re.findall(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*.*", text, flags=re.MULTILINE)
    telling = [each for each in tracebacks if "torch/distributed/elastic" not in each] or tracebacks or [text]
    return "\n".join(telling[-1].strip().splitlines()[-ERROR_LINES:])


def progress(cell: Cell, row: dict) -> str:
    """One line about a cell that has ended."""
    words = [row["status"]]
    if row["status"] == "failed":
        words.append(row["error"].splitlines()[-1])
    elif cell.method == "ceiling":
        words.append(f"{row['tflops']:.3g} TFLOP/s")
    elif row["status"] == "ok":
        words.append(f"{row['median_seconds']:.3g} s a step")
        if row["peak_allocated_gib"] is not None:
            words.append(f"{row['peak_allocated_gib']:.1f} GiB allocated, {row['used_gib']:.1f} GiB used")
    return f"{cell.name}: {', '.join(words)} ({row['wall_seconds']:.0f} s in all)"


if __name__ == "__main__":
    sys.exit(main())
