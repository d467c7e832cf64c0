"""Right and wrong answers, by hand: what selection rests on."""

import unicodedata

import pytest

from solopo_llamafactory.questions.sub_em import final_answer, mentions, sub_em


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("it was PARIS.", ["Paris"]),
        ("the U.S. Navy", ["u s navy"]),
        ("Saint-Étienne", ["Saint Etienne"]),
        ("the “Queen’s  Gambit”", ["Queen's Gambit"]),
        ("he lived in Old Esk", ["Esk Town", "Old Esk"]),
        ("in 1960.", ["1960"]),
        ("the 1960s", ["1960s"]),
        ("the 1960's", ["1960s"]),
        ("it is -5", ["-5"]),
        ("it is \u22125 degrees", ["-5"]),
        ("minus 5 degrees", ["\u22125"]),
        ("from 1960\u20131965", ["1965"]),
        ("1960 - 1965", ["1965"]),
        ("written in C++.", ["C++"]),
        ("C++17", ["C++"]),
        ("C\u266f", ["C#"]),
        ("on .NET", [".NET"]),
        ("grade A-, not A", ["A-"]),
        ("50%", ["50 percent"]),
        ("50 per cent", ["50%"]),
        ("50%", ["50"]),  # as 5 in "5 km"
        ("5 $", ["$5"]),
        ("-$5", ["$-5"]),
        ("about .5", ["0.5"]),
        ("10\u2075", ["10^5"]),
        ("\uff11\uff19\uff16\uff10", ["1960"]),
        ("\u0661\u0669\u0666\u0660", ["1960"]),
        ("Pa\u00adris", ["Paris"]),
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
        ("the 1960s", ["1960"]),
        ("1960's", ["1960"]),
        ("1960", ["1960s"]),
        ("C", ["C++"]),
        ("C++", ["C"]),
        ("C#", ["C"]),
        ("C#", ["C++"]),
        ("F", ["F#"]),
        ("NET", [".NET"]),
        ("A", ["A+", "A-"]),
        ("A-", ["A", "A+"]),
        ("18+", ["18"]),
        ("5", ["-5", "\u22125", "5%", "$5"]),
        ("-5", ["5"]),
        ("\u22125", ["5"]),
        ("\u20ac5", ["$5"]),
        ("-$5", ["5"]),
        (".5", ["5"]),
        ("10\u2075", ["105"]),
        ("+", ["++"]),
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


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("\u30d1\u30ea", "\u30d0\u30ea"),  # Japanese: Paris, Bali
        ("\u304b\u304e", "\u304b\u304d"),  # key, oyster
        ("\u0926\u093f\u0928", "\u0926\u093e\u0928"),  # Hindi: day, donation
        ("\u0e01\u0e34\u0e19", "\u0e01\u0e31\u0e19"),  # Thai: eat, each other
        ("\u0e2a\u0e35", "\u0e2a\u0e35\u0e48"),  # Thai: colour, four (another tone)
        ("\uae40\uc218", "\uae40\uc21c"),  # Korean: a final consonant more
        ("\u05e9\u05c1", "\u05e9\u05c2"),  # Hebrew: shin, sin
        ("\u0995\u09bf", "\u0995\u09c0"),  # Bengali vowels
        ("\u1019\u102c", "\u1019\u102d"),  # Burmese vowels
    ],
)
def test_marks_of_other_scripts_are_letters(right, other):
    for text, wanted in ((right, other), (other, right)):
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            written = unicodedata.normalize(form, text)
            assert not sub_em(f"The answer is {written}.", [wanted])
            assert sub_em(f"The answer is {written}.", [text])


@pytest.mark.parametrize(
    "word", ["Saint-\u00c9tienne", "\u0391\u03b8\u03ae\u03bd\u03b1", "\u0401\u043b\u043a\u0430", "\u1ec6"]
)
def test_accents_of_latin_greek_and_cyrillic_do_not_count(word):
    bare = "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))
    assert sub_em(bare, [word]) and sub_em(word, [bare]) and sub_em(unicodedata.normalize("NFD", word), [word])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\n```\n", "\n```"),
        ("\n```text\n", "\n```"),
        (" ```python\n", "```\n"),
        ("\n~~~\n", "\n~~~"),
        ("\n[\n", "\n]"),
        ("\n**\n", "\n**"),
        ("\n- ", "\n- Rome"),
        ("\n\n---\n\n", ""),
        ("\n<b>\n", "\n</b>"),
        ("\n\\[\n\\boxed{\n\\text{\n", "\n}\n}\n\\]"),
        ("\n$$\n\\begin{aligned}\n", "\n\\end{aligned}\n$$"),
        ("\n>\n> ", ""),
    ],
)
@pytest.mark.parametrize("answer", ["Ada Marl", "7", "\u30d1\u30ea", "\u0926\u093f\u0928", "++", "C++"])
def test_lines_without_a_letter_or_digit_are_no_answer(before, after, answer):
    text = f"It was Gus. The answer is:{before}{answer}{after}"
    assert sub_em(text, [answer]) and not sub_em(text, ["Gus"])


@pytest.mark.parametrize("answer", ["++", "<div>", "\\alpha", "?", "==="])
def test_an_answer_that_looks_like_markup_is_read_all_the_same(answer):
    assert sub_em(f"The answer is:\n```\n{answer}\n```\nI hope that this helps.", [answer])
    assert not sub_em("The answer is:\n```\nParis\n```\nI hope that this helps.", [answer])


def test_the_language_of_a_code_fence_is_no_answer():
    assert not sub_em("The answer is:\n```python\nJava\n```", ["Python"])
    assert sub_em("The answer is:\n```Java", ["Java"])
