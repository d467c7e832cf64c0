"""Shared fixtures: tiny models, small data and the host's training function, run in process."""

import atexit
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest


# Of their own: reference log-probs are kept there.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="solopo-tests-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # DeepSpeed compiles here, once in a run of the tests. A compilation that was killed leaves a lock behind, for which all
    # later ones in the same folder wait for ever.
    os.environ["TORCH_EXTENSIONS_DIR"] = tempfile.mkdtemp(prefix="solopo-tests-extensions-")
    atexit.register(shutil.rmtree, os.environ["TORCH_EXTENSIONS_DIR"], ignore_errors=True)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_DISABLED", "true")

# Where the tests run in the background of a script, they and all that they start ignore Ctrl-C otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
WORDS = "amber basin cedar delta ember fable grove haven inlet jetty knoll larch mason north ochre plaza".split()
COLUMNS = {"prompt": "short_prompt", "long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory) -> str:
    """Folder of a tiny Qwen2 model with its tokenizer."""
    return _tiny_model(tmp_path_factory, "qwen2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> str:
    """Folder of a tiny Llama model with its tokenizer."""
    return _tiny_model(tmp_path_factory, "llama")


def _tiny_model(tmp_path_factory, family: str) -> str:
    from solopo_llamafactory.tiny import make_tiny_model

    texts = [" ".join(random.Random(seed).choices(WORDS, k=50)) for seed in range(20)]
    return make_tiny_model(str(tmp_path_factory.mktemp(family)), family, texts, hidden_size=32)


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


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A dataset folder with 16 examples."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, make_rows(16))
    return folder


@pytest.fixture
def arguments(tmp_path, data_dir, tiny_qwen2):
    """Arguments of a short CPU run, to be changed by keyword."""

    def build(**overrides) -> dict:
        return {
            "stage": "solopo",
            "model_name_or_path": tiny_qwen2,
            "template": "qwen",
            "finetuning_type": "full",
            "do_train": True,
            "dataset": "pairs",
            "dataset_dir": str(data_dir),
            "cutoff_len": 512,
            "overwrite_cache": True,
            "pref_loss": "orpo",
            "output_dir": str(tmp_path / "output"),
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            **overrides,
        }

    return build


@pytest.fixture
def train(arguments):
    """Run the host's training function in this process and return what it logged, a dict a log."""

    def run(**overrides) -> list[dict]:
        args = arguments(**overrides)
        run_host(args)
        return read_logs(args["output_dir"])

    return run


@pytest.fixture
def load(arguments):
    """Parse arguments and load their data as the workflow does: (dataset module, reports)."""
    from llamafactory.hparams import get_train_args

    from solopo_llamafactory.host.data import load_data
    from solopo_llamafactory.host.imports import get_template_and_fix_tokenizer, load_tokenizer

    def run(**overrides):
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(arguments(**overrides))
        tokenizer_module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
        return load_data(template, model_args, data_args, training_args, finetuning_args, **tokenizer_module)

    return run


@pytest.fixture
def refused(train, tmp_path):
    """Assert that a run ends with one sentence that has the words, before it makes its output directory."""

    def check(words: str, **overrides) -> None:
        with pytest.raises(ValueError) as error:
            train(**overrides)
        assert words in str(error.value), error.value
        assert "\n" not in str(error.value)
        assert not (tmp_path / "output").exists()

    return check


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
    command = [sys.executable, str(ROOT / "tests/forked_runs.py"), str(folder / "jobs.json")]
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
