"""Batches carry what the model's forward takes and nothing it does not."""

import torch

from solopo_llamafactory.data.collator import MODEL_INPUTS, SolopoCollator
from solopo_llamafactory.data.sequences import sequences_of


FEATURES = [
    {"id": "a", "short_prompt_ids": [1, 2], "long_prompt_ids": [3, 4, 5], "chosen_ids": [6, 7], "rejected_ids": [8]},
    {"id": "b", "short_prompt_ids": [1], "long_prompt_ids": [3, 4], "chosen_ids": [6], "rejected_ids": [7, 8]},
]


def test_packed():
    batch = SolopoCollator(sequences_of("both"), packed=True, pad_token_id=0)(FEATURES)
    assert batch["ids"] == ["a", "b"]
    assert set(batch) & set(MODEL_INPUTS) == {"input_ids", "position_ids", "logits_to_keep", "packed_row"}
    assert batch["input_ids"].shape == (1, 10 + 7)
    assert batch["answer_lengths_NS"].tolist() == [[2, 1, 2], [1, 2, 1]]
    assert batch["targets_A"].shape == batch["logits_to_keep"].shape == (9,)


def test_padded():
    """Four short rows of up to 4 tokens and two long ones of 5."""
    batch = SolopoCollator(sequences_of("both"), packed=False, pad_token_id=0)(FEATURES)
    for rows in batch["row_groups"]:
        assert set(rows) & set(MODEL_INPUTS) == {"input_ids", "attention_mask", "position_ids"}
        assert rows["logit_positions_A"].shape == rows["targets_A"].shape
    assert [tuple(rows["input_ids"].shape) for rows in batch["row_groups"]] == [(4, 4), (2, 5)]
    assert batch["input_ids"].numel() == 26  # what is counted as computed
    assert batch["order_A"].shape == batch["targets_A"].shape == (9,)


def test_batches_pass_through_worker_processes():
    collator = SolopoCollator(sequences_of("both"), packed=True, pad_token_id=0)
    loader = torch.utils.data.DataLoader(FEATURES, batch_size=2, collate_fn=collator, num_workers=1)
    (batch,) = loader
    assert batch["packed_row"] == collator(FEATURES)["packed_row"]
