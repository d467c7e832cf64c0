"""Answers in texts: whole words for distractors, substrings for rejected answers."""

import pytest

from solopo_llamafactory.construct.text import answer_words, contains_substring, has_answer, normalize


@pytest.mark.parametrize(
    ("text", "answer", "whole", "inside"),
    [
        ("Born in New York.", "new york", True, True),
        ("The NEW-YORK paper", "New York", True, True),
        ("Born in 21960 days", "1960", False, True),
        ("In 1960, rain fell", "1960", True, True),
        ("He lived in Orleans", "Lea", False, True),
        ("A crown was found", "the Crown", True, False),
        ("The Societe Generale", "Soci\u00e9t\u00e9 G\u00e9n\u00e9rale", True, True),
        ("Made in the U.S. in May", "U.S.", True, True),
        ("Nothing here", "gold", False, False),
    ],
)
def test_search(text, answer, whole, inside):
    assert has_answer(f" {normalize(text)} ", answer_words([answer])) == whole
    assert contains_substring(text, [answer]) == inside


def test_an_answer_without_letters_is_no_word():
    assert answer_words(["?!", "the"]) == [" the "]
    assert not contains_substring("some text", ["?!"])
