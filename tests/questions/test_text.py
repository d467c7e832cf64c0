"""Answers in documents: whole words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solopo_llamafactory.questions.text import answer_words, has_answer, normalize


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("Born in New York.", "new york", True),
        ("The NEW-YORK paper", "New York", True),
        ("Born in 21960 days", "1960", False),
        ("In 1960, rain fell", "1960", True),
        ("In 1,960 towns", "1960", True),
        ("He lived in Orleans", "Lea", False),
        ("A crown was found", "the Crown", True),
        ("The Societe Generale", "Soci\u00e9t\u00e9 G\u00e9n\u00e9rale", True),
        ("Made in the U.S. in May", "U.S.", True),
        ("Nothing here", "gold", False),
        ("\u4ed6\u5728\u5317\u4eac\u5de5\u4f5c", "\u5317\u4eac", True),  # Chinese has no spaces
        ("\u4ed6\u5728NASA\u5de5\u4f5c", "NASA", True),
        ("2008\u5e74", "2008", True),
        ("\ubca0\uc774\uc9d5\uc5d0\uc11c", "\ubca0\uc774\uc9d5", True),  # Korean joins endings to names
        ("\u5317\u65b9", "\u5317\u4eac", False),
        ("on 12.05.1960", "1960", True),
        ("the 1960s", "1960", False),
        ("it costs 50%", "50", True),
        ("it costs 50", "50%", False),
        ("at -5 degrees", "5", False),
        ("in C++", "C", False),
        ("\u30d0\u30ea\u3067", "\u30d1\u30ea", False),
        ("\u0e01\u0e31\u0e19", "\u0e01\u0e34\u0e19", False),
    ],
)
def test_search(text, answer, found):
    assert has_answer(f" {normalize(text)} ", answer_words([answer])) == found


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  A  b_c-D ", "a b c d"),
        ("1,234.50!", "1234.50"),
        ("1,23 and 4,5678", "1 23 and 4 5678"),
        ("v1.2. End", "v1.2 end"),
        ("\u00c9t\u00e9", "ete"),
        ("?!", ""),
        ("C++, C# and F#", "c++ c# and f#"),
        ("-5, \u22125 and 3-5", "-5 -5 and 3 5"),
        ("$5, 5 $ and \u20ac5", "$ 5 $ 5 and \u20ac 5"),
        ("5% 5 percent", "5 % 5 %"),
        (".NET ...net", ".net net"),
        ("a well-known re-run", "a well known re run"),
        ("A+ A- AT&T", "a+ a- at t"),
        ("\0\1C\2\3", "c"),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


@given(st.text(), st.sampled_from(["NFC", "NFD"]))
def test_composed_and_decomposed_texts_are_equal(text, form):
    normal = normalize(text)
    assert normalize(unicodedata.normalize(form, text)) == normal
    assert normal == normal.strip() and "  " not in normal


def test_an_answer_without_letters_is_no_word():
    assert answer_words(["?!", "the"]) == [" the "]
