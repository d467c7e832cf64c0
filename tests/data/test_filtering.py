"""Counting and dropping on the mapped dataset, and the summary."""

import json

import pytest
from datasets import Dataset, concatenate_datasets

from solopo_llamafactory.data.filtering import filter_dataset
from solopo_llamafactory.data.processor import FEATURES
from solopo_llamafactory.data.sequences import sequences_of
from solopo_llamafactory.data.summary import DataReport, summary


def dataset(
    *sizes: tuple[int, int, int, int], dropped: str | None = None, value: str | None = None, name: str = "pairs"
) -> Dataset:
    rows = [
        {
            "id": f"e{i}",
            "data_set": name,
            "gold": None,
            "short_prompt_ids": [1] * short,
            "long_prompt_ids": [1] * long,
            "chosen_ids": [1] * chosen,
            "rejected_ids": [1] * rejected,
            "chat_tokens": ["<|im_end|>"] * (short == 7),
            "is_rendered": False,
            "drop_reason": None,
            "drop_value": None,
        }
        for i, (short, long, chosen, rejected) in enumerate(sizes)
    ]
    if dropped:
        rows.append(
            {**dict.fromkeys(FEATURES), "id": "bad", "data_set": name, "drop_reason": dropped, "drop_value": value}
        )
    return Dataset.from_list(rows, features=FEATURES)


BOTH = sequences_of("both")


def test_what_is_trained_on_must_fit():
    # cutoff 20: long + chosen 20 fits, 21 does not; long + rejected is not trained on; short + rejected is
    data = dataset((5, 15, 5, 9), (5, 16, 5, 1), (5, 10, 1, 16), dropped="no chosen")
    kept, report = filter_dataset(data, 20, BOTH)
    assert kept["id"][:] == ["e0"]
    assert "drop_reason" not in kept.column_names
    assert report.dropped == {"over-long": 2, "no chosen": 1}
    assert report.num_kept == 1
    assert report.lengths == {
        "short_prompt_ids": [5],
        "long_prompt_ids": [15],
        "chosen_ids": [5],
        "rejected_ids": [9],
    }


def test_chat_tokens_in_kept_examples_are_counted_and_told():
    kept, report = filter_dataset(dataset((7, 9, 1, 1), (5, 9, 1, 1), (7, 90, 1, 1)), 20, BOTH)
    assert report.chat_tokens == {"<|im_end|>": 1}  # the over-long example holds one, too
    assert "chat_tokens" not in kept.column_names
    lines = summary(report, "train").splitlines()
    assert "control tokens: <|im_end|> (1);" in lines[1]


@pytest.mark.parametrize(
    "view, align, kept",
    [("both", "chosen", ["a"]), ("both", "both", []), ("long", "chosen", []), ("short", "chosen", ["a"])],
)
def test_the_bound_follows_the_view(view, align, kept):
    data = dataset((5, 15, 5, 9), (1, 1, 1, 1))
    ids = filter_dataset(data, 20, sequences_of(view, align))[0]["id"][:]
    assert ids == (["e0", "e1"] if kept else ["e1"])


def test_overlong_as_an_error_names_the_example():
    with pytest.raises(ValueError, match="`e1` of data set `pairs` has 21 tokens"):
        filter_dataset(dataset((5, 15, 5, 9), (5, 16, 5, 1)), 20, BOTH, "error")


def test_nothing_left_lists_data_set_split_reasons_and_what_to_change():
    with pytest.raises(ValueError) as error:
        filter_dataset(dataset((5, 16, 5, 1), dropped="empty chosen"), 20, BOTH, split="eval")
    assert str(error.value) == (
        "All 2 examples of data set `pairs` are dropped from the eval data: over-long (1), empty chosen (1): raise "
        "`cutoff_len` (it is 20, and the longest example has 21 tokens); fill the field, or name the right one under "
        "`columns` in dataset_info.json."
    )


def mix(*parts: Dataset) -> Dataset:
    return concatenate_datasets(parts)


def test_a_data_set_of_a_mix_that_is_lost_is_an_error():
    data = mix(dataset((5, 15, 5, 9)), dataset((5, 16, 5, 1), name="other"))
    with pytest.raises(
        ValueError, match="All 1 examples of data set `other` are dropped from the train data: over-long"
    ):
        filter_dataset(data, 20, BOTH)
    _, report = filter_dataset(data, 20, BOTH, split="eval", all_needed=False)  # split off at random
    assert report.data_sets["other"].num_dropped == 1


def test_losses_are_counted_for_each_data_set():
    data = mix(dataset(*[(5, 15, 5, 9)] * 3, dropped="no chosen"), dataset(*[(5, 15, 5, 9)] * 9, name="other"))
    kept, report = filter_dataset(data, 20, BOTH)
    assert "data_set" not in kept.column_names
    assert {name: (loss.num_dropped, loss.total) for name, loss in report.data_sets.items()} == {
        "pairs": (1, 4),
        "other": (0, 9),
    }
    (warning,) = report.data_sets["pairs"].warnings("pairs", "train", 20, "both")
    assert warning.startswith(
        "1 of 4 examples of data set `pairs` are dropped from the train data: no chosen (1): fill"
    )


def test_the_first_wrong_value_is_shown():
    _, report = filter_dataset(
        dataset((5, 15, 5, 9), dropped="chosen is not text", value="1960 in a.jsonl line 7"), 20, BOTH
    )
    assert "chosen is not text (1, such as 1960 in a.jsonl line 7): " in report.data_sets["pairs"].loss(
        "pairs", "train", 20
    )
    first_line = summary(report, "train").splitlines()[0]
    assert first_line.endswith("1 dropped: chosen is not text (1, such as 1960 in a.jsonl line 7).")


def test_prompts_that_are_exchanged_or_equal_are_counted():
    """The tokens of the rows are all alike, so prompts of one length are equal."""
    data = dataset((15, 5, 1, 1), (5, 5, 1, 1), (5, 6, 1, 1), (90, 5, 1, 1))
    counts = filter_dataset(data, 20, BOTH)[1].data_sets["pairs"]
    assert (counts.longer_short, counts.equal) == (1, 1)  # the last one is dropped


def test_a_report_survives_json():
    _, report = filter_dataset(dataset((5, 15, 5, 9)), 20, BOTH)
    assert DataReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_summary_tells_everything():
    _, report = filter_dataset(dataset((1100, 7500, 200, 200), dropped="no chosen"), 8192, BOTH)
    text = summary(report, "train")
    assert "1 examples kept, 1 dropped: no chosen (1)." in text
    assert "0.147" in text  # rho = 1100 / 7500
