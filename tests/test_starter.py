"""`solopo init` gives an install what a clone has, and takes nothing from whoever is there."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from solopo_llamafactory import starter
from solopo_llamafactory.cli import main
from tests.helpers.runs import ROOT


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tracked() -> set[str]:
    command = ["git", "ls-files", "recipes", "data", "dataset_info.json"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_the_folder_has_what_the_repository_has(tmp_path, capsys):
    assert main(["init", str(tmp_path / "deep" / "new")]) == 0
    found = files_of(tmp_path / "deep" / "new")
    assert set(found) == tracked()
    assert all(content == (ROOT / name).read_bytes() for name, content in found.items())
    assert f"cd {tmp_path / 'deep' / 'new'}" in capsys.readouterr().out


@pytest.mark.parametrize("name", starter.SHIPPED)
def test_what_is_there_stays_and_nothing_is_added(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine, too")
    before = files_of(tmp_path)
    assert main(["init", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"solopo init: '{tmp_path}' has {name} already, which stays as it is: give the name of a new folder.\n"
    )
    assert files_of(tmp_path) == before


def test_other_files_of_the_folder_are_no_obstacle(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "recipes").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*starter.SHIPPED, "notes.txt"])


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        if source.name == "data":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(starter, "copy", fail)
    assert main(["init", str(tmp_path / "new")]) == 1
    assert "cannot be written (No space left on device): give another folder" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_clones_builds_have_made_is_left_out(tmp_path, monkeypatch):
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in starter.SHIPPED:
        starter.copy(ROOT / name, clone / name)
    (clone / "data" / "my_questions.jsonl").write_text("secret")
    (clone / "data" / "two_hop_pairs.build").mkdir()
    monkeypatch.setattr(starter, "root", lambda: clone)
    starter.init(str(tmp_path / "new"))
    assert set(files_of(tmp_path / "new")) == tracked()


@pytest.fixture
def installed(tmp_path) -> Path:
    """A fresh environment with the built wheel, beside everything else that is installed here but this package."""
    environment = tmp_path / "env"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
    # From a copy: setuptools writes into its folder.
    source = tmp_path / "source"
    source.mkdir()
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run([uv, "build", "-q", "-o", tmp_path / "dist", source], check=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert len(list((tmp_path / "dist").glob("*.tar.gz"))) == 1
    python = environment / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--no-deps", "--python", python, wheel], check=True)
    (site,) = (environment / "lib").glob("python*/site-packages")
    # Only a path: the .pth files of that folder, which would bring the clone in, are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


@pytest.mark.slow
def test_a_wheel_makes_a_folder_in_which_the_demo_runs(installed, tmp_path):
    """As a person without a clone does it: sdist, wheel from it, install, init, build, train, eval."""
    llamafactory = Path(sys.executable).with_name("llamafactory-cli")
    variables = os.environ | {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    variables |= {"HF_HOME": str(tmp_path / "hf")}

    def run(*command, cwd=tmp_path) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    where = run(installed / "python", "-c", "import solopo_llamafactory; print(solopo_llamafactory.__file__)")
    assert where.startswith(str(installed.parent))
    run(installed / "solopo", "init", "work")
    folder = tmp_path / "work"
    assert set(files_of(folder)) == tracked()
    small = ["num_examples=16", "num_held_out=0", "num_contexts=64"]
    run(installed / "solopo", "build", "recipes/data/two_hop.yaml", *small, cwd=folder)
    run(
        installed / "python",
        llamafactory,
        "train",
        "recipes/demo_cpu.yaml",
        "max_steps=2",
        "per_device_train_batch_size=2",
        cwd=folder,
    )
    run(installed / "solopo", "eval", "recipes/eval/two_hop.yaml", "num_questions=2", "lengths=[76]", cwd=folder)
    assert "SoLo-SimPO" in (folder / "saves" / "demo_eval" / "table.md").read_text()
    run(installed / "solopo", "tiny-model", "tiny", cwd=folder)
