"""Which checkpoint counts as one to resume from.

The host takes the highest number. A run that was killed while it wrote a checkpoint leaves one without its optimizer or
random states, and resuming from that silently starts them anew.
"""

import json
import os
import re
import zipfile
from pathlib import Path

from ..host.log import logger


def what_is_missing(checkpoint: Path, world_size: int) -> str | None:
    """The first file that `checkpoint` lacks for resuming with `world_size` processes, or None when it is complete."""

    def whole(name: str) -> bool:
        # torch.save writes a zip file, whose directory comes last: half a file is none.
        return zipfile.is_zipfile(checkpoint / name)

    state = checkpoint / "trainer_state.json"
    try:
        json.loads(state.read_text())
    except (OSError, ValueError):
        return state.name

    if (checkpoint / "latest").is_file():  # DeepSpeed
        states = checkpoint / (checkpoint / "latest").read_text().strip()
        sharded = any(states.glob("*zero_pp_rank_*"))
        if not sharded and not zipfile.is_zipfile(states / "mp_rank_00_model_states.pt"):  # ZeRO stage 0
            return f"{states.name}/mp_rank_00_model_states.pt"
        for rank in range(world_size if sharded else 0):
            if not any(zipfile.is_zipfile(path) for path in states.glob(f"*zero_pp_rank_{rank}_*optim_states.pt")):
                return f"{states.name}/*zero_pp_rank_{rank}_*optim_states.pt"
    elif not (whole("optimizer.pt") or whole("optimizer.bin") or (checkpoint / "optimizer_0" / ".metadata").is_file()):
        return "optimizer.pt"

    rng_files = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    return next((name for name in rng_files if not whole(name)), None)


def processes_of(checkpoint: Path) -> int:
    """The number of processes whose random states `checkpoint` holds."""
    return len(list(checkpoint.glob("rng_state*.pth")))


def last_complete_checkpoint(output_dir: str) -> str | None:
    """The newest complete checkpoint in `output_dir`; newer incomplete ones are named in a warning.

    Raises:
        ValueError: when the newest whole one was written by another number of processes: starting anew beside it
            would in the end delete it (`save_total_limit`).
    """
    if not os.path.isdir(output_dir):
        return None
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    numbered = [(int(m.group(1)), path) for path in Path(output_dir).iterdir() if (m := _is_checkpoint(path))]
    for _, checkpoint in sorted(numbered, reverse=True):
        missing = what_is_missing(checkpoint, world_size)
        if missing is None:
            return str(checkpoint)
        others = processes_of(checkpoint)
        if others not in (0, world_size) and what_is_missing(checkpoint, others) is None:
            raise ValueError(
                f"{checkpoint} was written by {others} process(es) and this run has {world_size}: start as many, or "
                "name another `output_dir` (or set `overwrite_output_dir: true`) to start anew."
            )
        logger.warning_rank0(
            f"{checkpoint} is incomplete for a run with {world_size} process(es), it has no whole {missing}: "
            "not resuming from it."
        )
    return None


def check_complete(checkpoint: str) -> None:
    """Raise ValueError unless `checkpoint`, which a person named, can be resumed from."""
    if not os.path.isdir(checkpoint):
        raise ValueError(f"`resume_from_checkpoint: {checkpoint}` does not exist: name a folder checkpoint-N.")
    missing = what_is_missing(Path(checkpoint), int(os.environ.get("WORLD_SIZE", "1")))
    if missing is not None:
        raise ValueError(
            f"`resume_from_checkpoint: {checkpoint}` is incomplete, it has no whole {missing}: name an earlier "
            "checkpoint, or remove the argument to take the newest complete one."
        )


def _is_checkpoint(path: Path) -> re.Match | None:
    return re.fullmatch(r"checkpoint-(\d+)", path.name) if path.is_dir() else None
