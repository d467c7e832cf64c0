"""Cost predictions against the packed row itself and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from transformers import Gemma3Config, Qwen2Config

from solopo_llamafactory.data.cost import (
    HOST,
    SHARED,
    ModelShape,
    cost_summary,
    cost_warning,
    packed_row_load,
    padded_long_load,
    padded_rows_load,
    predicted_ratios,
    shared_long_load,
    step_load,
)
from solopo_llamafactory.data.packing import pack
from solopo_llamafactory.data.padding import pad
from solopo_llamafactory.data.sequences import Example, Lengths, sequences_of


VIEWS = [("both", "chosen"), ("both", "both"), ("long", "chosen"), ("short", "chosen")]
LENGTHS = Lengths(*(np.array([n], dtype=float) for n in (20, 70, 5, 9)))
SEQUENCES = sequences_of("both")
EXAMPLE = Example([1] * 20, [2] * 70, [3] * 5, [4] * 9)
QWEN_7B = Qwen2Config(
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    vocab_size=152064,
)


def lengths_of(short: int, long: int, answer: int) -> Lengths:
    return Lengths(*(np.array([n], dtype=float) for n in (short, long, answer, answer)))


@pytest.mark.parametrize("view, align", VIEWS)
def test_the_predicted_load_is_the_packed_rows(view, align):
    row = pack([EXAMPLE], sequences_of(view, align))
    tokens, pairs, logit_tokens = packed_row_load(LENGTHS, sequences_of(view, align))[:, 0]
    assert tokens == row.input_ids_1T.shape[1]
    assert pairs == row.layout.attention_pairs
    assert logit_tokens == row.targets_A.shape[0]


@pytest.mark.parametrize("view, align", VIEWS)
def test_the_predicted_load_of_padded_rows_is_the_padded_batch(view, align):
    batch = pad([EXAMPLE], sequences_of(view, align), pad_token_id=0)
    shapes = [rows.input_ids_BW.shape for rows in batch.groups]
    assert padded_rows_load(LENGTHS, sequences_of(view, align))[:, 0].tolist() == [
        sum(rows * width for rows, width in shapes),
        sum(rows * width * width for rows, width in shapes),
        len(batch.targets_A),
    ]


def test_the_smaller_group_is_priced_with_its_second_forward():
    """Two short rows of 29 tokens and a long one of 75, and of the smaller group one forward more in a step of three."""
    tokens, pairs, logit_tokens = step_load(LENGTHS, SEQUENCES, packed=False)[:, 0]
    assert tokens == pytest.approx(75 + 58 * 4 / 3)
    assert pairs == pytest.approx(75**2 + 2 * 29**2 * 4 / 3)
    assert logit_tokens == pytest.approx(5 + 14 * 4 / 3)
    one_view = sequences_of("long")
    assert step_load(LENGTHS, one_view, packed=False).tolist() == padded_rows_load(LENGTHS, one_view).tolist()


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


PAPER = lengths_of(1100, 7500, 200)


def test_the_paper_s_setting_is_cheaper_than_the_host_s_long_pair():
    ratios = predicted_ratios(PAPER, QWEN_7B, SEQUENCES, packed=True)
    assert 0.5 < ratios[HOST] < 0.65
    assert ratios[SHARED] > 1


@pytest.mark.parametrize(
    "packed, words",
    [(True, "9200 in the packed row, 7900 in plain long PO"), (False, "10300 in padded rows, 7900 in plain long PO")],
)
def test_what_runs_is_what_is_priced(packed, words):
    """1100 + 400 + 7500 + 200 tokens in the packed row, in padded rows two of 1300 and one of 7700."""
    text = cost_summary(PAPER, QWEN_7B, SEQUENCES, packed)
    assert words in text
    assert "15408 in the host's dpo stage" in text  # 2 * 7704: 7700 padded to a multiple of 8
    for ratio in predicted_ratios(PAPER, QWEN_7B, SEQUENCES, packed).values():
        assert f"{ratio:.2f} of" in text


@pytest.mark.parametrize(
    "lengths, packed, align, words",
    [
        (PAPER, True, "chosen", None),
        (PAPER, False, "chosen", None),
        (PAPER, True, "both", None),
        (PAPER, False, "both", "padded rows compute a prompt once for each answer to it"),
        (
            lengths_of(2000, 2400, 2000),
            True,
            "chosen",
            "answers of 2000 tokens on average are long beside the contexts",
        ),
        (lengths_of(7400, 7500, 50), True, "chosen", None),  # prompts are computed once, so two of them still pay
    ],
)
def test_the_warning_blames_what_is_to_blame(lengths, packed, align, words):
    warning = cost_warning(lengths, QWEN_7B, sequences_of("both", align), packed)
    assert warning is None if words is None else words in warning


def test_a_multimodal_model_is_priced_by_its_language_model():
    text_config = QWEN_7B.to_dict() | {"model_type": "gemma3_text", "head_dim": 128}
    config = Gemma3Config(text_config=text_config)
    ratios = predicted_ratios(PAPER, config, SEQUENCES, packed=True)
    assert ratios == pytest.approx(predicted_ratios(PAPER, QWEN_7B, SEQUENCES, packed=True))
