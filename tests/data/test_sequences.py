"""What follows from the sequences that are trained: names, twins, tokens, digests, and the longest row."""

from itertools import combinations

import numpy as np
import pytest

from solopo_llamafactory.data.packing import pack
from solopo_llamafactory.data.padding import pad
from solopo_llamafactory.data.sequences import Example, Lengths, sequence_digest, sequences_of


VIEWS = [("both", "chosen"), ("both", "both"), ("long", "chosen"), ("short", "chosen")]
SIZES = ((5, 30, 4, 7), (9, 41, 3, 2), (20, 22, 9, 8))  # short prompt, long prompt, chosen, rejected
EXAMPLES = [Example(*([token] * size for token, size in enumerate(sizes, 1))) for sizes in SIZES]
LENGTHS = Lengths(*np.array(SIZES, dtype=float).T)


def test_names_and_twins():
    assert sequences_of("both").names == ["chosen", "rejected", "chosen_long"]
    assert sequences_of("both").long_twins == {"chosen": "chosen_long"}
    assert sequences_of("both", "both").long_twins == {"chosen": "chosen_long", "rejected": "rejected_long"}
    for view in ("short", "long"):
        sequences = sequences_of(view)
        assert sequences.names == ["chosen", "rejected"] and sequences.long_twins == {}
        assert {each.prompt for each in sequences} == {f"{view}_prompt_ids"}


def test_only_what_is_read_is_a_column():
    assert sequences_of("short").columns == ["short_prompt_ids", "chosen_ids", "rejected_ids"]
    assert sequences_of("both").columns == list(Example._fields)


def test_a_short_reference_needs_no_long_sequence():
    sequences = sequences_of("both")
    assert sequences.measured_from("matched").names == ["chosen", "rejected", "chosen_long"]
    assert sequences.measured_from("short").names == ["chosen", "rejected"]
    assert sequences_of("both", "both").measured_from("short").names == ["chosen", "rejected"]
    for view in ("short", "long"):  # the pair itself, on its own context
        assert sequences_of(view).measured_from("short") == sequences_of(view)


def test_digests_tell_where_a_prompt_ends():
    assert sequence_digest([1, 2], [3]) != sequence_digest([1], [2, 3])
    assert sequence_digest([1, 2], [3]) == sequence_digest((1, 2), (3,))


def test_digests_are_in_the_order_of_the_names():
    example = EXAMPLES[0]
    expected = [sequence_digest(prompt, answer) for prompt, answer in sequences_of("both").token_ids(example)]
    assert sequences_of("both").digests(example._asdict()) == expected


@pytest.mark.parametrize("view, align", VIEWS)
def test_the_longest_sequence(view, align):
    sequences = sequences_of(view, align)
    expected = [max(len(prompt) + len(answer) for prompt, answer in sequences.token_ids(each)) for each in EXAMPLES]
    assert sequences.longest(LENGTHS).tolist() == expected
    by_prompt = [sequences.longest(LENGTHS, prompt).tolist() for prompt in sequences.answers_of]
    assert [max(values) for values in zip(*by_prompt)] == expected


@pytest.mark.parametrize("view, align", VIEWS)
@pytest.mark.parametrize("batch_size, multiple", [(1, 1), (2, 1), (2, 16)])
def test_the_longest_row_is_the_one_that_the_collator_makes(view, align, batch_size, multiple):
    sequences = sequences_of(view, align)
    batches = list(combinations(EXAMPLES, batch_size))
    rows = [pack([*batch], sequences, multiple).input_ids_1T.shape[1] for batch in batches]
    assert sequences.longest_row(LENGTHS, batch_size, packed=True, pad_to_multiple_of=multiple) == max(rows)
    padded = [rows.input_ids_BW.numel() for batch in batches for rows in pad([*batch], sequences, 0).groups]
    assert sequences.longest_row(LENGTHS, batch_size, packed=False) == max(padded)
