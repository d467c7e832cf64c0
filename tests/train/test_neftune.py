"""NEFTune's noise depends on a context's own length: not on what else is in the row."""

import pytest
import torch
from torch import nn

from solopo_llamafactory.data.collator import SolopoCollator
from solopo_llamafactory.data.packing import pack
from solopo_llamafactory.data.sequences import Example, sequences_of
from solopo_llamafactory.train.neftune import EmbeddingNoise, sequence_lengths
from tests.model.test_attention import make_examples


ALPHA, HIDDEN = 5.0, 64
EXAMPLE = Example([1] * 5, [2] * 30, [3] * 4, [4] * 9)


def collate(examples: list[Example], packed: bool = True) -> dict:
    collator = SolopoCollator(sequences_of("both"), packed, pad_token_id=0)
    return collator([{**example._asdict(), "id": "e"} for example in examples])


def largest_noise(batch: dict) -> torch.Tensor:
    """The largest noise of many draws at each place of a batch, (rows, tokens)."""
    embeddings = nn.Embedding(300, HIDDEN)
    nn.init.zeros_(embeddings.weight)
    noise = EmbeddingNoise(embeddings, ALPHA)
    draws = []
    for _ in range(30):
        noise.expect(batch)
        draws.append(embeddings(batch["input_ids"]).abs().amax(-1))
    return torch.stack(draws).amax(0)


@pytest.mark.parametrize("multiple", [1, 16])
def test_lengths_by_hand(multiple):
    """Short prompt with chosen: 9 tokens, also for the rejected answer; long prompt with chosen: 34."""
    row = pack([EXAMPLE, EXAMPLE], sequences_of("both"), multiple)
    filled = [-(-size // multiple) * multiple for size in (9, 34)]
    expected = [9] * (filled[0] + 9) + [34] * filled[1]
    assert sequence_lengths(row.layout, row.position_ids_1T[0])[0].tolist() == expected * 2


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_the_noise_does_not_depend_on_the_batch(batch_size):
    measured = largest_noise(collate([EXAMPLE] * batch_size))[0]
    limits = [ALPHA / (length * HIDDEN) ** 0.5 for length in [9] * 18 + [34] * 34] * batch_size
    assert (measured / torch.tensor(limits)).tolist() == pytest.approx([1] * len(limits), abs=0.02)
    assert (measured <= torch.tensor(limits)).all()


def test_padding_does_not_count():
    groups = collate([EXAMPLE], packed=False)["row_groups"]
    measured = [row for rows in groups for row in largest_noise(rows)]
    for row, length in zip(measured, (34, 9, 14)):
        assert row[-length:].max().item() == pytest.approx(ALPHA / (length * HIDDEN) ** 0.5, rel=0.02)


def test_no_noise_outside_of_training_steps_and_for_other_batches():
    embeddings = nn.Embedding(300, HIDDEN)
    noise = EmbeddingNoise(embeddings, ALPHA)
    tokens = torch.arange(4)[None]
    assert torch.equal(embeddings(tokens), embeddings.weight[:4][None])  # nothing was expected, such as in generation
    embeddings.eval()
    row = pack(make_examples(1), sequences_of("both"))
    noise.expect({"packed_row": row.layout, "position_ids": row.position_ids_1T})
    assert torch.equal(embeddings(row.input_ids_1T)[0, 0], embeddings.weight[row.input_ids_1T[0, 0]])


def test_two_runs_with_one_seed_are_equal_and_noisy(train, tmp_path):
    runs = [
        train(neftune_noise_alpha=alpha, output_dir=str(tmp_path / str(i)))[0]["loss"]
        for i, alpha in enumerate((5, 5))
    ]
    assert runs[0] == runs[1]
    assert runs[0] != pytest.approx(train(output_dir=str(tmp_path / "plain"))[0]["loss"], rel=1e-3)
