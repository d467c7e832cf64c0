"""Cost predictions against the packed row itself and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from solopo_llamafactory.cost import Lengths, ModelShape, packed_row_load, padded_long_load, shared_long_load
from solopo_llamafactory.packing import Example, pack, sequences_of


LENGTHS = Lengths(*(np.array([n], dtype=float) for n in (20, 70, 5, 9)))
EXAMPLE = Example([1] * 20, [2] * 70, [3] * 5, [4] * 9)
QWEN_7B = SimpleNamespace(
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    vocab_size=152064,
)


@pytest.mark.parametrize(
    "view, align", [("both", "chosen"), ("both", "both"), ("long", "chosen"), ("short", "chosen")]
)
def test_the_predicted_load_is_the_packed_rows(view, align):
    row = pack([EXAMPLE], sequences_of(view, align))
    tokens, pairs, logit_tokens = packed_row_load(LENGTHS, view, align)[:, 0]
    assert tokens == row.input_ids_1T.shape[1]
    assert pairs == row.layout.attention_pairs
    assert logit_tokens == row.targets_A.shape[0]


def test_long_po_by_hand():
    # shared: 70 + 5 + 9 tokens; the host: two rows of 70 + 9, padded to 80
    assert shared_long_load(LENGTHS)[0, 0] == 84
    assert padded_long_load(LENGTHS)[:, 0].tolist() == [160, 2 * 80 * 81 / 2, 160]


def test_parameters_of_a_known_model():
    """Qwen2.5-7B has 6.53 billion parameters in its layers' matrices and 0.545 billion in the output layer."""
    shape = ModelShape.of(QWEN_7B)
    assert shape.per_token == pytest.approx(6.53e9, rel=0.01)
    assert shape.per_logit_token == pytest.approx(0.545e9, rel=0.01)


def test_where_the_gain_ends():
    """Attention alone breaks even at rho = 1 / sqrt(2), with the long pair computed as two sequences."""
    attention_only = ModelShape(per_token=0, per_pair=1, per_logit_token=0)
    for rho, cheaper in ((0.69, True), (0.72, False)):
        short, long = 100_000 * rho, 100_000.0
        ours = attention_only.cost(0, 2 * short**2 / 2 + long**2 / 2, 0)
        plain = attention_only.cost(0, 2 * long**2 / 2, 0)
        assert (ours < plain) is cheaper


def test_an_unknown_architecture_has_no_prediction():
    assert ModelShape.of(SimpleNamespace(hidden_size=8)) is None
