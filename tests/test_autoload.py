"""The hook reaches every kind of process, costs next to nothing and never breaks `import torch`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT, last_words, make_rows, read_logs, run_python, write_dataset


def test_the_entry_point_is_installed():
    from importlib.metadata import entry_points

    names = [entry.value for entry in entry_points(group="torch.backends")]
    assert "solopo_llamafactory.autoload:install" in names


def test_import_torch_leaves_a_hook_and_nothing_else():
    code = """
import sys, torch
from solopo_llamafactory.autoload import _HostImportHook
assert isinstance(sys.meta_path[0], _HostImportHook)
assert not [name for name in sys.modules if name.startswith("solopo_llamafactory.") and "autoload" not in name]
assert not [name for name in sys.modules if name.startswith("llamafactory")]
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_the_hook_loads_two_modules_and_no_other():
    """What they cost is measured by `benchmarks/import_cost.py`."""
    code = """
import sys
before = set(sys.modules)
import solopo_llamafactory.autoload as autoload
autoload.install()
new = set(sys.modules) - before
assert new == {"solopo_llamafactory", "solopo_llamafactory.autoload"}, new
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_switched_off_by_environment():
    code = "import sys, torch; assert 'HostImportHook' not in str(sys.meta_path), sys.meta_path"
    result = run_python(code, SOLOPO_DISABLE="1")
    assert result.returncode == 0, result.stderr
    result = run_python(code, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"solopo_alpha": 2.0}, "Some keys are not used by the HfArgumentParser: ['solopo_alpha']"),
        ({}, "Unknown task: solopo."),
    ],
    ids=["recipe", "stage alone"],
)
def test_the_stage_asked_for_while_the_hook_is_off(changes, words, arguments):
    """The host's own words, which README quotes: none of our code runs then."""
    code = f"from llamafactory.train.tuner import run_exp; run_exp({arguments(**changes)!r})"
    result = run_python(code, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert result.returncode != 0 and words in result.stderr.splitlines()[-1]


def test_a_broken_installation_only_warns():
    code = """
import sys, solopo_llamafactory.autoload as autoload
autoload.enable = lambda: 1 / 0
autoload.install()
"""
    result = run_python(code, "-W", "error")
    assert result.returncode == 0
    assert "`stage: solopo` is off" in result.stderr


def test_a_second_copy_of_the_hook_does_no_harm():
    code = """
import importlib, solopo_llamafactory.autoload as autoload
autoload.enable()
importlib.reload(autoload).enable()
import llamafactory.hparams.parser as parser
assert parser._TRAIN_ARGS[3].__name__ == "SolopoFinetuningArguments"
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_enable_by_hand_before_and_after_the_host_is_loaded():
    for order in ("import solopo_llamafactory as s; s.enable(); import llamafactory.train.tuner as t",
                  "import llamafactory.train.tuner as t; import solopo_llamafactory as s; s.enable(); s.enable()"):  # fmt: skip
        code = f"""
{order}
from llamafactory.hparams import parser
assert any(cls.__name__ == "SolopoFinetuningArguments" for cls in parser._TRAIN_ARGS)
assert t.read_args.__wrapped__
t.read_args({{"stage": "solopo"}})
assert t.run_dpo.__wrapped__ and not hasattr(t.run_dpo.__wrapped__, "__wrapped__")
"""
        result = run_python(code, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
        assert result.returncode == 0, result.stderr


def test_the_hosts_own_stages_give_the_same_losses(arguments, tmp_path):
    """One process with the package switched off, one with it; of ppo, which needs a reward model, the arguments."""
    data, rows = tmp_path / "data", make_rows(6)
    write_dataset(data, rows)
    files = {
        "pt": [{"text": row["long_prompt"]} for row in rows],
        "sft": [{"instruction": row["short_prompt"], "input": "", "output": row["chosen"]} for row in rows],
        "kto": [
            {"instruction": row["short_prompt"], "output": row["chosen"], "kto_tag": i % 2 == 0}
            for i, row in enumerate(rows)
        ],
    }
    info = json.loads((data / "dataset_info.json").read_text())
    for name, content in files.items():
        (data / f"{name}.json").write_text(json.dumps(content))
        info[name] = {"file_name": f"{name}.json"}
    info["pt"]["columns"] = {"prompt": "text"}
    info["kto"]["columns"] = {"prompt": "instruction", "response": "output", "kto_tag": "kto_tag"}
    (data / "dataset_info.json").write_text(json.dumps(info))

    datasets = {"pt": "pt", "sft": "sft", "rm": "pairs_short", "kto": "kto", "dpo": "pairs_short"}
    losses, parsed = [], []
    for disabled in ("1", "0"):
        outputs = {stage: str(tmp_path / f"{stage}{disabled}") for stage in datasets}
        runs = [
            arguments(
                stage=stage,
                finetuning_type="lora",  # the host cannot save a full reward model with tied weights
                dataset=name,
                output_dir=outputs[stage],
                max_steps=2,
                dataset_dir=str(data),
                cutoff_len=64,  # also the length of a row of pt, which packs
                pref_loss="orpo" if stage == "dpo" else "sigmoid",
            )
            for stage, name in datasets.items()
        ]
        ppo = arguments(
            stage="ppo",
            finetuning_type="lora",
            dataset="sft",
            dataset_dir=str(data),
            reward_model="reward",
            output_dir="unused",
        )
        code = f"""
import json, torch
from llamafactory.train.tuner import run_exp
from llamafactory.hparams import FinetuningArguments, get_train_args
for args in {runs!r}:
    run_exp(args)
ppo = get_train_args({ppo!r})[3].to_dict()
print("PPO", json.dumps({{name: ppo[name] for name in FinetuningArguments().to_dict()}}))
"""
        result = run_python(code, SOLOPO_DISABLE=disabled)
        assert result.returncode == 0, last_words(result)
        losses.append({stage: [log["loss"] for log in read_logs(output)] for stage, output in outputs.items()})
        parsed.append(result.stdout.partition("PPO")[2])
    assert losses[0] == losses[1]
    assert all(len(values) == 2 for values in losses[0].values())
    assert parsed[0] == parsed[1] and '"stage": "ppo"' in parsed[0]


BROKEN_HOSTS = {
    "missing": None,
    "raises": "raise RuntimeError('a broken host')",
    "empty": "",
}


@pytest.mark.parametrize("name", BROKEN_HOSTS)
def test_import_torch_survives_a_broken_host(name, tmp_path):
    """And its own words are what a person sees."""
    code = "import sys, torch; print('torch is there'); import llamafactory.hparams.parser"
    if BROKEN_HOSTS[name] is None:
        code = code.replace("import llamafactory", "sys.modules['llamafactory'] = None; import llamafactory", 1)
    else:
        (tmp_path / "llamafactory" / "hparams").mkdir(parents=True)
        for package in (tmp_path / "llamafactory", tmp_path / "llamafactory" / "hparams"):
            (package / "__init__.py").write_text("")
        (tmp_path / "llamafactory" / "hparams" / "parser.py").write_text(BROKEN_HOSTS[name])
    result = run_python(code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "torch is there" in result.stdout
    expected = {"missing": "ModuleNotFoundError: ", "raises": "RuntimeError: a broken host"}
    if name in expected:
        assert expected[name] in result.stderr.splitlines()[-1]
    else:
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("arguments", [["-I"], ["-S"]])
def test_isolated_and_bare_interpreters(arguments):
    """-I ignores PYTHONPATH; -S does not look at site-packages, which is named by hand here."""
    import torch

    packages = os.path.dirname(os.path.dirname(torch.__file__))
    code = "import sys, torch; print(sum(getattr(finder, 'is_solopo_hook', False) for finder in sys.meta_path))"
    result = run_python(code, *arguments, PYTHONPATH=f"{ROOT}{os.pathsep}{packages}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1"


def test_the_hook_writes_nothing():
    """So a site-packages that is read-only does not matter to it."""
    code = """
import os, sys
written = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        written.append(arguments[0])
sys.addaudithook(watch)
import solopo_llamafactory.autoload as autoload
autoload.install()
assert any(getattr(finder, "is_solopo_hook", False) for finder in sys.meta_path)
assert not written, written
open(os.devnull, "w").close()
assert written  # the watch works
"""
    result = run_python(code, "-B")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_pip_uninstall_leaves_nothing_behind(tmp_path):
    environment, source = tmp_path / "venv", tmp_path / "source"
    shutil.copytree(ROOT / "solopo_llamafactory", source / "solopo_llamafactory")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)

    def pip(*arguments: str) -> None:
        command = [str(environment / "bin" / "python"), "-m", "pip", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    def files() -> set[Path]:
        return {path for path in environment.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    before = files()
    pip("install", "--no-deps", str(source))
    added = {path.name for path in files() - before}
    assert {"autoload.py", "solopo", "entry_points.txt"} <= added
    pip("uninstall", "--yes", "solopo-llamafactory")
    assert files() == before
    assert not list(environment.rglob("*solopo*"))
