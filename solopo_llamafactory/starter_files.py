"""What `solopo init` writes and a wheel carries. Imports the standard library only: setup.py runs this file."""

import shutil
from pathlib import Path


SHIPPED = ("recipes", "data", "dataset_info.json")
OF_DATA = {"README.md", "demo_corpus.jsonl", "two_hop"}  # the rest of data/ was made by a clone's own builds


def copy(source: Path, target: Path) -> None:
    """Copy a file or a tree of `SHIPPED` as it is in the repository."""
    if source.is_file():
        shutil.copyfile(source, target)
        return

    def made_here(folder: str, names: list[str]) -> set[str]:
        is_data = Path(folder) == source and source.name == "data"
        return {name for name in names if name == "__pycache__" or is_data and name not in OF_DATA}

    shutil.copytree(source, target, ignore=made_here, copy_function=shutil.copyfile)
