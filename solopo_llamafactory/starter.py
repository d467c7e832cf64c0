"""`solopo init`: recipes, data entries and demo data for people who installed the package and have no clone of it."""

import os
import tempfile
from pathlib import Path

from .common.errors import SolopoError
from .starter_files import SHIPPED, copy


PACKAGE = Path(__file__).parent
NEXT = """To try it, on a CPU:
    cd {folder}
    solopo build recipes/data/two_hop.yaml
    llamafactory-cli train recipes/demo_cpu.yaml
    solopo eval recipes/eval/two_hop.yaml
Recipes of larger models are in recipes/, with recipes/README.md."""


def root() -> Path:
    """The folder that holds what is shipped: inside an installed package, or the clone that the package is part of."""
    installed = PACKAGE / "starter"
    return installed if installed.is_dir() else PACKAGE.parent


def init(folder: str) -> str:
    """Copy what is shipped into `folder`, which is made where it is missing; returns what to do next.

    Raises:
        SolopoError: when something of these names is there already, or the folder cannot be written.
    """
    target = Path(folder)
    there = [name for name in SHIPPED if os.path.lexists(target / name)]
    if there:
        raise SolopoError(
            f"'{folder}' has {' and '.join(there)} already, which stays as it is: give the name of a new folder."
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, as far as a few renames in one folder can be.
        with tempfile.TemporaryDirectory(dir=target, prefix=".solopo_init_") as half_done:
            for name in SHIPPED:
                copy(root() / name, Path(half_done) / name)
            for name in SHIPPED:
                os.rename(Path(half_done) / name, target / name)
    except OSError as error:
        raise SolopoError(f"'{folder}' cannot be written ({error.strerror or error}): give another folder.") from None
    return f"Wrote {', '.join(SHIPPED)} to {folder}.\n{NEXT.format(folder=folder)}"
