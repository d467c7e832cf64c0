"""Answers in documents: whole words."""

import pytest

from solopo_llamafactory.construct.text import answer_words, has_answer, normalize


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
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


def test_an_answer_without_letters_is_no_word():
    assert answer_words(["?!", "the"]) == [" the "]
