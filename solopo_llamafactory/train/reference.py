"""Log-probs of the reference model, computed once before training and kept on disk.

A number for each sequence (a prompt with an answer), found again by the sequence's tokens: so a table serves any order,
split or selection of the data, grows with it, and a run that was interrupted goes on where it stopped. One file for each
reference model; the tokens already stand for data, template and tokenizer.

Shape suffixes: N examples, S sequences of an example.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from tqdm import tqdm
from transformers.integrations import is_deepspeed_zero3_enabled

from ..common.distributed import gather, is_main, same_everywhere, share_of
from ..common.files import atomic_path, stamp
from ..data.sequences import DIGEST_SIZE, Sequences


SAVE_SECONDS = 60
TABLE_VERSION = 2  # raised when this package computes other log-probs than before
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")
# What else changes the numbers of a model.
MODEL_ARGUMENTS = ("rope_scaling", "model_max_length", "compute_dtype", "resize_vocab", "upcast_layernorm")
MODEL_ARGUMENTS += ("quantization_method", "quantization_type", "double_quantization")


class ReferenceTable:
    """Digest of a sequence -> sum of its answer's log-probs under the reference model.

    Args:
        path: the table's file, or None for one that is not kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.logps: dict[bytes, float] = {}

    @classmethod
    def open(cls, path: Path | None) -> "ReferenceTable":
        """The table as the main process finds it on its disk, the same in every process."""
        table = cls(path)
        table.logps = same_everywhere(_read(path) if is_main() else {})
        return table

    def save(self) -> None:
        """Write the table with what other runs have added to the file meanwhile, in one step. Main process only.

        Raises:
            ValueError: where it cannot be written; an earlier file stays.
        """
        if self.path is None or not self.logps or not is_main():
            return
        logps = _read(self.path) | self.logps
        digests = torch.frombuffer(bytearray(b"".join(logps)), dtype=torch.uint8).view(-1, DIGEST_SIZE)
        try:
            with atomic_path(self.path) as unfinished:
                save_file({"digests": digests, "logps": torch.tensor(list(logps.values()))}, unfinished)
        except (OSError, SafetensorError) as err:
            raise ValueError(
                f"The reference log-probs cannot be written to {self.path} ({err}): make room, or set HF_HOME to a "
                "folder on another disk."
            ) from None

    def lookup(self, digests_NS: list[list[bytes]], device: torch.device) -> Tensor:
        """The sums of a batch, (N, S) float32.

        Raises:
            KeyError: for a sequence that `fill` has not seen.
        """
        return torch.tensor([[self.logps[digest] for digest in digests] for digests in digests_NS], device=device)

    def missing(self, dataset: Dataset, sequences: Sequences) -> list[int]:
        """Indices of the examples with a sequence that the table lacks."""
        rows = dataset.select_columns(sequences.columns)
        rows = tqdm(rows, desc="Looking up reference log-probs", disable=not is_main())
        return [i for i, row in enumerate(rows) if any(d not in self.logps for d in sequences.digests(row))]


def lacking(
    table: ReferenceTable, datasets: Sequence[Dataset], sequences: Sequences
) -> list[tuple[Dataset, list[int]]]:
    """The datasets that hold sequences which the table lacks, each with the indices of these examples."""
    found = [(dataset, table.missing(dataset, sequences)) for dataset in datasets]
    return [(dataset, missing) for dataset, missing in found if missing]


def indices_of_first_batches(loader: DataLoader, count: int) -> set[int] | None:
    """The examples in the first `count` batches of every process; None where they may be all, or are not known.

    Args:
        loader: as accelerate prepared it, before its first epoch.
    """
    sampler = getattr(
        loader.batch_sampler, "batch_sampler", loader.batch_sampler
    ).sampler  # below the shares of processes
    # Looking at what another sampler draws would change what it draws next.
    known = isinstance(sampler, (SequentialSampler, SeedableRandomSampler)) and count < len(loader)
    if not same_everywhere(known):
        return None
    own = {index for batch in islice(loader.batch_sampler, count) for index in batch}
    return set().union(*gather(own))


def fill(
    table: ReferenceTable,
    examples: Dataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    score: Callable[[dict[str, Any]], Tensor],
    batch_size: int,
    num_workers: int = 0,
) -> None:
    """Add the examples to the table, spread over all processes, and save it every minute.

    Args:
        collator: examples -> batch, with the sequences' `digests`.
        score: batch -> (N, S) sums of log-probs.
        batch_size: examples of a batch on one process.

    Raises:
        ValueError: when a sum is not a finite number; it would be kept for later runs.
    """
    loader = DataLoader(
        examples.select(share_of(len(examples))),
        batch_size=batch_size,
        collate_fn=collator,
        num_workers=num_workers,
        shuffle=False,
    )
    new: dict[bytes, float] = {}
    saved_at = time.monotonic()
    for i, batch in enumerate(tqdm(loader, desc="Reference log-probs", disable=not is_main())):
        for example_id, digests, values in zip(batch["ids"], batch["digests"], score(batch).tolist()):
            if not all(map(math.isfinite, values)):
                raise ValueError(
                    f"The reference model gives example `{example_id}` the log-probability {sum(values)}: check its "
                    "weights and its dtype."
                )
            new |= zip(digests, values)
        if same_everywhere(time.monotonic() - saved_at > SAVE_SECONDS) or i + 1 == len(loader):
            for part in gather(new):
                table.logps |= part
            table.save()
            new, saved_at = {}, time.monotonic()


def cache_file(model_args, finetuning_args, config) -> Path | None:
    """The table's file below HF_HOME; None when nothing tells the reference model from others (random weights).

    Args:
        config: the trained model's transformers config, which knows the commit of a model from the hub.
    """
    if finetuning_args.ref_model is not None:
        weights, adapters, commit = finetuning_args.ref_model, finetuning_args.ref_model_adapters, None
        quantization_bit = finetuning_args.ref_model_quantization_bit
    else:
        weights, adapters = model_args.model_name_or_path, model_args.adapter_name_or_path
        commit, quantization_bit = getattr(config, "_commit_hash", None), model_args.quantization_bit
    if isinstance(adapters, str):
        adapters = adapters.split(",")
    parts = [_describe_weights(weights, commit)]
    parts += [_describe_weights(os.path.join(name, model_args.adapter_folder or "")) for name in adapters or []]
    if model_args.train_from_scratch or None in parts:
        return None
    description = {
        "version": TABLE_VERSION,
        "weights": parts,
        # Which adapters are part of the reference. The host merges other ones under ZeRO-3.
        "adapters": [finetuning_args.finetuning_type, finetuning_args.create_new_adapter, finetuning_args.ref_model],
        "zero3": is_deepspeed_zero3_enabled(),
        "quantization_bit": quantization_bit,
        **{name: str(getattr(model_args, name)) for name in MODEL_ARGUMENTS},
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:20]
    return Path(constants.HF_HOME, "solopo", f"reference-{digest}.safetensors")


def _describe_weights(name: str, commit: str | None = None) -> list | None:
    """What tells weights from others without reading them: each file's size and time of change, or the hub's commit."""
    if not os.path.isdir(name):
        return None if commit is None else [name, commit]
    files = sorted(path for path in Path(name).iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not files:
        return None
    files += sorted(Path(name).glob("*config.json"))
    return [os.path.abspath(name), *([path.name, *stamp(path)] for path in files)]


def _read(path: Path | None) -> dict[bytes, float]:
    if path is None or not path.is_file():
        return {}
    try:
        tensors = load_file(path)
    except SafetensorError as err:
        raise ValueError(f"{path} is broken ({err}): delete it, and its log-probs are computed anew.") from None
    return dict(zip(map(bytes, tensors["digests"].numpy()), tensors["logps"].tolist()))
