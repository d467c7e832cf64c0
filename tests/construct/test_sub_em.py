"""Right and wrong answers, by hand: what selection rests on."""

import pytest

from solopo_llamafactory.construct.sub_em import final_answer, mentions, sub_em


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("it was PARIS.", ["Paris"]),
        ("the U.S. Navy", ["u s navy"]),
        ("Saint-Étienne", ["Saint Etienne"]),
        ("the “Queen’s  Gambit”", ["Queen's Gambit"]),
        ("he lived in Old Esk", ["Esk Town", "Old Esk"]),
        ("in 1960.", ["1960"]),
        ("the 1960s", ["1960"]),
        ("(1960–1965)", ["1965"]),
        ("1,234,567 people", ["1234567"]),
        ("1234567 people", ["1,234,567"]),
        ("about 3.5 km", ["3.5"]),
        ("it costs $5", ["$5"]),
        ("a party", ["art"]),  # RULER's substring
        ("it is written in C++", ["++"]),
        ("born 12.5.1960", ["1960"]),
        ("\u4ed6\u5728\u5317\u4eac\u5de5\u4f5c", ["\u5317\u4eac"]),
    ],
)
def test_right(text, answers):
    assert mentions(text, answers) and sub_em(text, answers)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("in 21960", ["1960"]),
        ("in 19601", ["1960"]),
        ("in 19,600", ["1960", "960", "600", "19"]),
        ("about 3.5 km", ["3", "5"]),
        ("about 1960.5", ["1960"]),
        ("London", ["Paris"]),
        ("", ["Paris"]),
        ("anything", ["", "  "]),
        ("New York", ["York New"]),
    ],
)
def test_wrong(text, answers):
    assert not mentions(text, answers) and not sub_em(text, answers)


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("Paris or Rome. The answer is Rome.", "Rome."),
        ("The answer is Paris. No: the answer is Rome", "Rome"),
        ("So...\n**Final Answer:** Rome\nThank you, Paris", "Rome"),
        ("Answer: Rome", "Rome"),
        ("thus \\boxed{Rome}", "{Rome}"),
        ("<answer>Rome</answer>", "Rome</answer>"),
        ("It is Rome", "It is Rome"),
        ("Rome is the answer", "Rome is the answer"),
        ("Rome. The answer is", "Rome. The answer is"),
        ("The answer is:\nRome\nParis", "Rome"),
        (
            "The answer is Rome. This answer is supported by Document 3.",
            "Rome. This answer is supported by Document 3.",
        ),
        ("**Answer**: Rome", "Rome"),
    ],
)
def test_final_answer(text, final):
    assert final_answer(text) == final


def test_the_marked_answer_decides():
    text = "The author was born in Esk and died in Pelm. The answer is {}."
    assert sub_em(text.format("Esk"), ["Esk"])
    assert not sub_em(text.format("Pelm"), ["Esk"])
    assert mentions(text.format("Pelm"), ["Esk"])
