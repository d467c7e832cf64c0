"""Token ids -> the batch that the trainer feeds to the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .packing import pack
from .padding import pad
from .sequences import Example, Sequences


# What of a batch goes to the model's forward.
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", "packed_row")


@dataclass
class SolopoCollator:
    """Packs a device batch into one row, or pads it for a model that cannot take one.

    Args:
        sequences: what to train on.
        packed: whether the model takes a packed row, see `model.probe`.
        pad_token_id: for padded batches and for filling.
        pad_to_multiple_of: see `packing.pack`.
        reference_sequences: those whose reference log-probs are looked up, the first ones of `sequences`.
    """

    sequences: Sequences
    packed: bool
    pad_token_id: int
    pad_to_multiple_of: int = 1
    reference_sequences: Sequences | None = None

    def of_reference(self) -> "SolopoCollator":
        """A collator that leaves out the sequences that need no reference."""
        return replace(self, sequences=self.reference_sequences)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`MODEL_INPUTS` for the model's forward, tensors of the answers, the examples' `ids`, and their `digests`.

        Of padded rows, the inputs of each forward pass with its answers are in `row_groups`.
        """
        examples = [Example(**{field: feature[field] for field in Example._fields}) for feature in features]
        if self.packed:
            row = pack(examples, self.sequences, self.pad_to_multiple_of, self.pad_token_id)
            batch = {
                "input_ids": row.input_ids_1T,
                "position_ids": row.position_ids_1T,
                "logits_to_keep": row.logit_positions_A,
                "packed_row": row.layout,
                "targets_A": row.targets_A,
                "answer_lengths_NS": row.answer_lengths_NS,
            }
        else:
            padded = pad(examples, self.sequences, self.pad_token_id)
            batch = {
                # Of all groups: what tokens and operations are counted by, here and in transformers.
                "input_ids": torch.cat([rows.input_ids_BW.flatten() for rows in padded.groups])[None],
                "row_groups": [
                    {name.removesuffix("_BW"): tensor for name, tensor in vars(rows).items()} for rows in padded.groups
                ],
                "order_A": padded.order_A,
                "targets_A": padded.targets_A,
                "answer_lengths_NS": padded.answer_lengths_NS,
            }
        if self.reference_sequences is not None:
            batch["digests"] = [self.reference_sequences.digests(feature) for feature in features]
        return {**batch, "ids": [feature["id"] for feature in features]}
