"""The shape of the tree: imports run one way, one place touches the host, files stay small."""

import ast
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT


PACKAGE = ROOT / "solopo_llamafactory"
# Room -> the rooms that it may import, beside itself. Files of the top are rooms of their own.
MAY_IMPORT = {
    "common": (),
    "host": (),
    "data": ("common", "host"),
    "model": ("common", "host", "data"),
    "train": ("common", "host", "data", "model", "generation", "questions", "sampling"),
    "generation": ("model",),
    "questions": ("common", "host"),
    "sampling": ("common", "host", "model", "generation"),
    "construct": ("common", "questions", "sampling"),
    "evaluate": ("common", "questions", "sampling"),
    "webui": ("train",),
    "hooks": ("common", "host", "data", "train", "webui"),
    "autoload": ("hooks",),
    "starter": ("common", "starter_files"),
    "starter_files": (),
    "cli": ("common", "model", "questions", "construct", "evaluate", "starter"),
    "__init__": ("autoload",),
}
# The objective, the packed row, and what joins them to the host; a list of other trainers' argument names is none of it.
CORE = (
    "hooks",
    "train/objectives.py",
    "train/alignment.py",
    "train/trainer.py",
    "data/sequences.py",
    "data/packing.py",
    "data/padding.py",
)
CORE += ("data/collator.py", "model/attention.py", "model/logprobs.py")
NOT_CORE = ("hooks/unknown_keys.py",)
# 80 more since padded rows come in two groups: their tokens put back in order, and a backward pass for each.
LONGEST_FILE, LARGEST_CORE = 430, 2580


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, wherever in it; what only type checkers read is left out."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for each in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parent = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            found |= {f"{parent}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("solopo_llamafactory.")}
    assert rooms & MAY_IMPORT.keys() <= {room, *MAY_IMPORT[room]}


def test_no_room_reaches_itself_through_others():
    for room, others in MAY_IMPORT.items():
        seen, below = set(), list(others)
        while below:
            seen.add(other := below.pop())
            below += [each for each in MAY_IMPORT[other] if each not in seen]
        assert room not in seen


def test_only_hooks_and_host_touch_the_host():
    outside = [path for path in PACKAGE.rglob("*.py") if room_of(path) not in ("hooks", "host")]
    touching = [path for path in outside if any(name.split(".")[0] == "llamafactory" for name in imports_of(path))]
    assert touching == []


def test_no_file_is_long():
    folders = ("solopo_llamafactory", "benchmarks", "experiments", "tests", "data")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_core_stays_small():
    files = [
        path for name in CORE for path in ([PACKAGE / name] if name.endswith(".py") else (PACKAGE / name).glob("*.py"))
    ]
    files = [path for path in files if str(path.relative_to(PACKAGE)) not in NOT_CORE]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= LARGEST_CORE
