"""Token ids -> the batch that the trainer feeds to the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .packing import Example, pack, pad


# What of a batch goes to the model's forward.
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", "packed_row")


@dataclass
class SolopoCollator:
    """Packs a device batch into one row, or pads it for a model that cannot take one.

    Args:
        sequences: what to train on, see `packing.sequences_of`.
        packed: whether the model takes a packed row, see `packable`.
        pad_token_id: for padded batches.
    """

    sequences: dict[str, tuple[str, str]]
    packed: bool
    pad_token_id: int

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`MODEL_INPUTS` for the model's forward, tensors of the answers, and the examples' `ids`."""
        examples = [Example(**{field: feature[field] for field in Example._fields}) for feature in features]
        if self.packed:
            row = pack(examples, self.sequences)
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
                "input_ids": padded.input_ids_BW,
                "attention_mask": padded.attention_mask_BW,
                "position_ids": padded.position_ids_BW,
                "logits_to_keep": padded.num_logits,
                "answer_columns_A": padded.answer_columns_A,
                "targets_A": padded.targets_A,
                "answer_lengths_NS": padded.answer_lengths_NS,
            }
        return {**batch, "ids": [feature["id"] for feature in features]}
