"""Small data, and runs of the host in this process or as a user starts them."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


ROOT = Path(__file__).resolve().parents[2]
WORDS = "amber basin cedar delta ember fable grove haven inlet jetty knoll larch mason north ochre plaza".split()
COLUMNS = {"prompt": "short_prompt", "long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}


def make_rows(count: int, seed: int = 0) -> list[dict]:
    """Records of the data contract with prompts and answers of uneven length."""
    rng = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    rows = []
    for i in range(count):
        evidence = text(8, 16)
        rows.append(
            {
                "id": f"example-{i}",
                "short_prompt": f"{evidence}. Which?",
                "long_prompt": f"{text(20, 40)}. {evidence}. {text(20, 40)}. Which?",
                "chosen": text(3, 7),
                "rejected": text(3, 9),
            }
        )
    return rows


def write_dataset(folder: Path, rows: list[dict], name: str = "pairs") -> None:
    """Write rows and their three entries: `pairs`, `pairs_short`, `pairs_long`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info_path = folder / "dataset_info.json"
    info = json.loads(info_path.read_text()) if info_path.is_file() else {}
    file_name = f"{name}.jsonl"
    info[name] = {"file_name": file_name, "formatting": "solopo", "ranking": True, "columns": COLUMNS}
    for view in ("short", "long"):
        columns = {"prompt": f"{view}_prompt", "chosen": "chosen", "rejected": "rejected"}
        info[f"{name}_{view}"] = {"file_name": file_name, "ranking": True, "columns": columns}
    info_path.write_text(json.dumps(info))


def run_host(args: dict) -> None:
    """The host's entry point for a dict of arguments."""
    from llamafactory.train.tuner import run_exp

    run_exp(args)


def read_logs(output_dir: str) -> list[dict]:
    """The training logs of a finished run."""
    state = json.loads(Path(output_dir, "trainer_state.json").read_text())
    return [log for log in state["log_history"] if "loss" in log]


# DeepSpeed compiles a small extension the first time it runs on a CPU.
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed on a CPU needs g++")


def launch(args: dict, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run `llamafactory-cli train` as a user does; `NPROC_PER_NODE="2"` starts two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(json.dumps(args))  # JSON is YAML
    return run_command(["llamafactory-cli", "train", str(config)], **environment)


def run_command(command: list[str], seconds: float = 500, **environment: str) -> subprocess.CompletedProcess:
    """Run a command from the repository's root; past its time, it ends with all that it started."""
    process = subprocess.Popen(
        command,
        env=command_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    finally:
        kill_family(process)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter, with further arguments of its own and variables of its environment."""
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, **environment},
        cwd=ROOT,
    )


def kill_family(process: subprocess.Popen) -> None:
    """End a process and its descendants: torchrun's workers are in sessions of their own."""
    if process.poll() is None:
        for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            member.kill()
        process.wait()


def run_forked(jobs: dict[str, dict], folder: Path, **environment: str) -> dict[str, list[int]]:
    """Run `forked_runs.py` on the jobs, which get their `log` here, and return the exit codes by name."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {name: {"log": str(folder / f"{name}.log"), **job} for name, job in jobs.items()}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, str(ROOT / "tests/helpers/forked_runs.py"), str(folder / "jobs.json")]
    result = run_command(command, seconds=1500, **environment)
    assert result.returncode == 0, last_words(result)
    return json.loads(result.stdout.splitlines()[-1])


def last_words(result: subprocess.CompletedProcess) -> str:
    """The end of what a failed command said, without torchrun's own report, which says only that a process failed."""
    return result.stderr.split("Sending process")[0].split("torch.distributed.elastic")[0][-5000:]


def command_environment(**environment: str) -> dict[str, str]:
    """The environment of a command: our scripts on PATH, and torchrun where processes are counted."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python_path = f"{ROOT / 'tests/quiet_exit'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    if "NPROC_PER_NODE" in environment:
        environment["FORCE_TORCHRUN"] = "1"
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path, **environment}
