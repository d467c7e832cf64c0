"""Contexts: budgets, evidence, distractors and determinism, on a renderer that counts words."""

import random
from collections import Counter

import pytest

from solopo_llamafactory.common.errors import Skip
from solopo_llamafactory.questions.contexts import Synthesizer
from solopo_llamafactory.questions.sources import Document, MusiqueSource
from solopo_llamafactory.questions.text import answer_words, has_answer, normalize
from solopo_llamafactory.questions.wording import WORDINGS
from tests.helpers.questions import WordRenderer, demo_questions, paragraph, record, write_lines


COT = WORDINGS["cot"]
QUESTIONS = demo_questions()
SHORT, LONG = 320, 1200


def parts(prompt: str) -> list[str]:
    """The documents of a prompt."""
    context = prompt.split("Read the following documents.\n\n")[1].split("Answer the question from the documents")[0]
    pieces = context.split("\n\n")[:-1]
    assert [piece.split("\n")[0] for piece in pieces] == [f"Document {i}:" for i in range(1, len(pieces) + 1)]
    return [piece.split("\n", 1)[1] for piece in pieces]


def make(tmp_path, *records):
    questions = list(MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", *records))))
    return questions, Synthesizer(questions, WordRenderer(), seed=1)


@pytest.mark.parametrize("surplus", [0, 2, -1], ids=["exact sums", "sums too high", "sums too low"])
def test_budgets_evidence_and_distractors(surplus):
    renderer = WordRenderer(surplus=surplus)
    synthesizer = Synthesizer(QUESTIONS, renderer, seed=3)
    every = {f"{doc.title}\n{doc.text}": doc for q in QUESTIONS for doc in (*q.evidence, *q.distractors)}
    for question in QUESTIONS[:60]:
        words = answer_words(question.answers)
        for context, budget in zip(synthesizer.contexts(question, SHORT, LONG), (SHORT, LONG)):
            documents = parts(context.prompt)
            assert context.tokens == renderer.count(context.prompt) <= budget
            assert len(documents) == len(set(documents)) == context.documents
            gold = [documents[position - 1] for position in context.positions]
            assert gold == [f"{doc.title}\n{doc.text}" for doc in question.evidence]
            for document in documents:
                assert document in gold or not has_answer(f" {normalize(document)} ", words)
            assert context.prompt.endswith(f"Question: {question.text}") and not context.shortfall
            # What is left is smaller than every document that could still be added (as pieces are counted).
            usable = [
                doc
                for text, doc in every.items()
                if text not in documents and not has_answer(f" {normalize(text)} ", words)
            ]
            number = COT.heading(len(documents) + 1)
            smallest = min(sum(renderer.piece_lengths([COT.body(doc), number])) for doc in usable)
            if surplus >= 0:
                assert budget - context.tokens < smallest


def test_own_distractors_come_first():
    question = QUESTIONS[0]
    _, long = Synthesizer(QUESTIONS, WordRenderer(), seed=3).contexts(question, SHORT, LONG)
    assert {f"{doc.title}\n{doc.text}" for doc in question.distractors} <= set(parts(long.prompt))


def test_zero_keeps_the_gold_paragraphs_alone():
    short, long = Synthesizer(QUESTIONS, WordRenderer(), seed=3).contexts(QUESTIONS[0], 0, LONG)
    assert short.documents == len(QUESTIONS[0].evidence) < long.documents and not short.shortfall


def test_same_seed_same_contexts_in_any_order_of_calls():
    one, two = (Synthesizer(QUESTIONS, WordRenderer(), seed=3) for _ in range(2))
    forward = [one.contexts(question, SHORT, LONG) for question in QUESTIONS[:5]]
    backward = [two.contexts(question, SHORT, LONG) for question in QUESTIONS[4::-1]]
    assert forward == backward[::-1]
    assert forward[0] != Synthesizer(QUESTIONS, WordRenderer(), seed=4).contexts(QUESTIONS[0], SHORT, LONG)


def test_evidence_is_spread_evenly_over_the_context():
    """A chi-square test on ten parts of the context: 27.9 is its 99.9% bound at nine degrees of freedom."""
    counts: Counter[int] = Counter()
    for seed in range(4):
        synthesizer = Synthesizer(QUESTIONS, WordRenderer(), seed=seed)
        for question in QUESTIONS:
            _, long = synthesizer.contexts(question, 0, LONG)
            # Document k of n covers the n-th part from (k - 1) / n on; a random point in it is even over the whole.
            rng = random.Random(f"{seed}|{question.id}")
            counts.update(int(10 * (position - rng.random()) / long.documents) for position in long.positions)
    expected = counts.total() / 10
    assert counts.total() > 1500
    assert sum((counts[part] - expected) ** 2 / expected for part in range(10)) < 27.9


def test_the_order_of_evidence_is_drawn_for_each_question():
    synthesizer = Synthesizer(QUESTIONS, WordRenderer(), seed=3)
    orders = Counter()
    for question in QUESTIONS:
        if len(question.evidence) == 2:
            _, long = synthesizer.contexts(question, 0, LONG)
            orders[long.positions[0] < long.positions[1]] += 1
    assert min(orders.values()) > 0.35 * orders.total()


def test_answers_may_be_allowed_in_distractors(tmp_path):
    leak = paragraph(4, "Leak", "The old-ESK road is long.")
    questions, synthesizer = make(tmp_path, record(paragraphs=[*record()["paragraphs"], leak]))
    assert "Leak" not in synthesizer.contexts(questions[0], 0, 900)[1].prompt
    lenient = Synthesizer(questions, WordRenderer(), seed=1, allow_answer=True)
    assert "Leak" in lenient.contexts(questions[0], 0, 900)[1].prompt


def test_a_corpus_gives_further_distractors(tmp_path):
    questions, _ = make(tmp_path, record())
    synthesizer = Synthesizer(questions, WordRenderer(), seed=1, corpus=[Document("Far", "Far away lies a hill.")])
    assert "Far\nFar away lies a hill." in synthesizer.contexts(questions[0], 0, 900)[1].prompt


def test_a_page_that_holds_the_evidence_is_no_distractor(tmp_path):
    questions, _ = make(tmp_path, record())
    page = Document("Page", "An old page. Dune Song is a novel by Ada Marl. It goes on.")
    part = Document("Part", "a novel by Ada Marl")
    synthesizer = Synthesizer(questions, WordRenderer(), seed=1, corpus=[page, part, Document("Far", "A far hill.")])
    titles = [text.split("\n")[0] for text in parts(synthesizer.contexts(questions[0], 0, 900)[1].prompt)]
    assert "Far" in titles and "Page" not in titles and "Part" not in titles


def test_too_few_distractors_for_a_long_context(tmp_path):
    questions, synthesizer = make(tmp_path, record())
    with pytest.raises(Skip, match="too few distractors"):
        synthesizer.contexts(questions[0], 300, 900)


def test_shortfall_duplicates_and_answers_in_distractors(tmp_path):
    extra = [
        paragraph(4, "Copy", "IVO TARN was born in Orm!"),  # a duplicate but for case and punctuation
        paragraph(5, "Gold again", "Dune Song is a novel by Ada Marl."),
        paragraph(6, "Leak", "The old-ESK road is long."),
        paragraph(7, "Esk", "A town with a wall."),  # the title is the answer
        paragraph(8, "Desk", "A desk is not a town."),  # the answer is inside a word only
    ]
    questions, synthesizer = make(tmp_path, record(paragraphs=record()["paragraphs"] + extra))
    _, long = synthesizer.contexts(questions[0], 0, 900)
    titles = sorted(text.split("\n")[0] for text in parts(long.prompt))
    assert titles == ["Ada Marl", "Desk", "Dune Song", "Ivo Tarn", "Salt Song"] and long.shortfall


def test_evidence_over_a_budget_is_skipped(tmp_path):
    questions, synthesizer = make(tmp_path, record())
    with pytest.raises(Skip, match="evidence alone over short_tokens"):
        synthesizer.contexts(questions[0], 20, 900)
    with pytest.raises(Skip, match="evidence alone over long_tokens"):
        synthesizer.contexts(questions[0], 0, 20)


def test_the_pool_serves_other_questions_and_unusable_records(tmp_path):
    other = record(id="other", answerable=False, paragraphs=[paragraph(0, "Far", "Far away lies a hill.")])
    questions, synthesizer = make(tmp_path, record(), other)
    _, long = synthesizer.contexts(questions[0], 0, 900)
    assert "Far\nFar away lies a hill." in parts(long.prompt)
