"""Wordings: the shipped ones to the byte, own texts in any language, what is refused, and how a final answer is found."""

import json

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.contexts import Synthesizer
from solopo_llamafactory.questions.sources import Document
from solopo_llamafactory.questions.sub_em import MARKERS, final_answer, mentions_after_marker, sub_em
from solopo_llamafactory.questions.wording import WORDINGS, Wording, differences, read_wording
from tests.helpers.questions import WordRenderer, demo_questions


DOCUMENTS = [Document("Dune Song", "By Ada {text} Marl."), Document("Salt {number}", "By Ivo Tarn.")]
GERMAN = {
    "introduction": "Lies die folgenden Dokumente.",
    "document": "[{number}] {title}\n{text}\n",
    "instruction": "Beantworte die Frage aus den Dokumenten und ende mit: Die Antwort lautet ...\n",
    "question": "Frage: {question}",
    "marker": "Die Antwort lautet",
}


def test_cot_is_the_wording_that_always_was():
    assert WORDINGS["cot"].prompt(DOCUMENTS, "Who?") == (
        "Read the following documents.\n\nDocument 1:\nDune Song\nBy Ada {text} Marl.\n\nDocument 2:\nSalt {number}\nBy Ivo "
        "Tarn.\n\nAnswer the question from the documents above. Think step by step, name the title of each document that you "
        "use, and end with a sentence of the form: The answer is ...\n\nQuestion: Who?"
    )
    assert WORDINGS["cot"].markers is MARKERS


def test_direct_differs_in_its_instruction_alone():
    cot, direct = WORDINGS["cot"], WORDINGS["direct"]
    assert differences(cot, direct) == ["instruction", "marker"]
    instruction = "Answer the question from the documents above. Write only the answer, in a few words."
    assert direct.prompt(DOCUMENTS, "Who?") == cot.prompt(DOCUMENTS, "Who?").replace(cot.instruction, instruction)


def test_own_texts_are_joined_by_blank_lines_and_filled_in_once():
    german = read_wording(GERMAN)
    assert german.prompt(DOCUMENTS, "Wer {text}?") == (
        "Lies die folgenden Dokumente.\n\n[1] Dune Song\nBy Ada {text} Marl.\n\n[2] Salt {number}\nBy Ivo Tarn.\n\n"
        "Beantworte die Frage aus den Dokumenten und ende mit: Die Antwort lautet ...\n\nFrage: Wer {text}?"
    )
    assert german.heading(2) + german.body(DOCUMENTS[1]) in german.prompt(DOCUMENTS, "")
    bare = read_wording({"instruction": "Answer.", "introduction": None, "document": "{text}"})
    assert bare.prompt(DOCUMENTS[1:], "Who?") == "By Ivo Tarn.\n\nAnswer.\n\nQuestion: Who?"


@pytest.mark.parametrize("wording", [*WORDINGS.values(), read_wording(GERMAN), Wording("読む。", document="{text}")])
def test_budgets_count_the_wording(wording):
    renderer = WordRenderer()
    for verify in (True, False):
        synthesizer = Synthesizer(demo_questions()[:20], renderer, seed=1, verify=verify, wording=wording)
        for question in demo_questions()[:5]:
            for context, budget in zip(synthesizer.contexts(question, 320, 700), (320, 700)):
                assert renderer.count(context.prompt) <= context.tokens <= budget
                assert context.prompt.endswith(wording.prompt([], question.text)[-len(question.text) - 9 :])
                for position, document in zip(context.positions, question.evidence):
                    assert wording.heading(position) + wording.body(document) in context.prompt


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("terse", "wording is 'terse': write cot or direct, or a mapping with an `instruction`."),
        ({"instructions": "Go."}, "`instructions` is not a key of `wording`: did you mean `instruction`?"),
        ({"marker": "So:"}, "`wording` has no `instruction`: add what is to be done with the documents."),
        ({"instruction": 3}, "instruction is 3: write a text, in quotes where it looks like a number."),
        (
            {"instruction": "Go.", "introduction": ""},
            "introduction is '': write a text, in quotes where it looks like a number.",
        ),
        (
            {"instruction": "Go.", "document": "{title}"},
            "`document` of `wording` is '{title}': write {text} where that goes.",
        ),
        (
            {"instruction": "Go.", "document": "{text} {url}"},
            "`document` of `wording` has {url}: what is filled in is {number}, {text}, {title}.",
        ),
        (
            {"instruction": "Go.", "document": "{text} ({number})"},
            "`document` of `wording` is '{text} ({number})': write {number} before {title} and {text}, or leave it out.",
        ),
        (
            {"instruction": "Go.", "question": "Q:"},
            "`question` of `wording` is 'Q:': write {question} where that goes.",
        ),
    ],
)
def test_a_wrong_wording_is_refused_in_one_sentence(value, sentence):
    with pytest.raises(SolopoError) as caught:
        read_wording(value)
    assert str(caught.value) == sentence


def test_a_wording_without_a_marker_has_all_of_an_answer_judged():
    text = "Paris. The answer is in document 2."
    direct = WORDINGS["direct"].markers
    assert not sub_em(text, ["Paris"]) and sub_em(text, ["Paris"], direct)
    assert final_answer(text, markers=direct) == text
    wrong = "The answer is Rome. Paris is the answer of another document."
    assert mentions_after_marker(wrong, ["Paris"]) and not mentions_after_marker(wrong, ["Paris"], direct)
    assert sub_em(wrong, ["Paris"], direct)


def test_an_own_marker_is_one_more():
    markers = read_wording(GERMAN).markers
    for text in ("Berlin? Nein. die Antwort lautet: Paris.", "Berlin? The answer is Paris.", r"Berlin? \boxed{Paris}"):
        assert sub_em(text, ["Paris"], markers) and not sub_em(text, ["Berlin"], markers)
    assert sub_em("Berlin, sage ich. Die Antwort lautet Paris.", ["Berlin"])  # who is not told of the marker


def test_own_texts_survive_json():
    """As pairs carry them in their `meta`."""
    assert read_wording(json.loads(json.dumps(GERMAN))) == read_wording(GERMAN)
