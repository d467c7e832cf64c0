"""What a person is told of dropped examples."""

import ast

import pytest

from solopo_llamafactory.data.drops import DataSetCounts, advice_for
from tests.helpers.runs import ROOT


def reasons_in_the_code() -> list[str]:
    """Every reason that a `DropRow` carries, with a word in the place of what is filled in."""
    reasons = []
    for file in ("converter.py", "processor.py"):
        for node in ast.walk(ast.parse((ROOT / "solopo_llamafactory" / "data" / file).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DropRow":
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
                reasons.append(
                    "".join(getattr(part, "value", "") if isinstance(part, ast.Constant) else "word" for part in parts)
                )
    return reasons


def test_every_reason_has_its_advice():
    reasons = ["over-long", *reasons_in_the_code()]
    assert len(reasons) > 15
    assert [reason for reason in reasons if not advice_for(reason)] == []


@pytest.mark.parametrize(
    "reason, words",
    [
        ("over-long", "raise `cutoff_len`"),
        ("no chosen", "`columns` in dataset_info.json"),
        ("empty long_prompt", "`columns` in dataset_info.json"),
        ("chosen has characters that the tokenizer does not know", "`model_name_or_path`"),
        ("rejected is nothing but thoughts", "`enable_thinking: true`"),
        ("has images", "text only"),
        ("short_prompt holds the placeholder <image>", "choose a `template` without media tokens"),
        ("short_prompt has an odd role", "`tags`"),
        ("an answer's tokens merge with the prompt's", "another `template`"),
    ],
)
def test_advice(reason, words):
    assert words in advice_for(reason)


def counts(total: int, dropped: dict[str, int], **change) -> DataSetCounts:
    return DataSetCounts(total, dropped, values={}, longest=700, **change)


@pytest.mark.parametrize(
    "dropped, total, warned", [(1, 5, True), (1, 6, False), (2, 10, True), (0, 1, False), (7, 8, True)]
)
def test_a_fifth_is_a_warning(dropped, total, warned):
    loss = counts(total, {"over-long": dropped} if dropped else {})
    sentences = loss.warnings("pairs", "train", 512, "both")
    assert len(sentences) == warned
    if warned:
        assert sentences[0] == (
            f"{dropped} of {total} examples of data set `pairs` are dropped from the train data: over-long ({dropped}): "
            "raise `cutoff_len` (it is 512, and the longest example has 700 tokens)."
        )


def test_the_advice_of_two_reasons_stands_once():
    loss = counts(4, {"no chosen": 2, "empty chosen": 1})
    assert loss.loss("pairs", "eval", 512).count("fill the field") == 1


@pytest.mark.parametrize(
    "odd, num_odd, words",
    [
        (
            "longer_short",
            5,
            "The short prompt is longer than the long one in 5 of 8 rows of data set `pairs` in the eval data",
        ),
        ("equal", 5, "The short prompt equals the long one in 5 of 8 rows"),
        ("rendered", 2, "A chat template has rendered the prompts before in 2 of 8 rows"),
    ],
)
def test_prompts_that_are_odd(odd, num_odd, words):
    """Of the 10 rows 2 are dropped; some may be odd without a word."""
    some = counts(10, {"over-long": 1, "no chosen": 1}, **{odd: num_odd})
    (_, warning) = some.warnings("pairs", "eval", 512, "both")
    assert warning.startswith(words)
    assert len(counts(10, {}, **{odd: num_odd - 1}).warnings("pairs", "eval", 512, "both")) == 0
    assert len(some.warnings("pairs", "eval", 512, "long")) == (2 if odd == "rendered" else 1)
