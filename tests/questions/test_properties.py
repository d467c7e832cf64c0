"""What holds for the contexts of any questions and documents: evidence, budgets, distractors, determinism."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solopo_llamafactory.common.errors import Skip
from solopo_llamafactory.questions.contexts import Synthesizer
from solopo_llamafactory.questions.sources import Document, Question
from solopo_llamafactory.questions.text import answer_words, has_answer, normalize
from solopo_llamafactory.questions.wording import WORDINGS
from tests.helpers.questions import WordRenderer


COT = WORDINGS["cot"]
WORDS = [
    "amber",
    "Basin",
    "CEDAR",
    "1960",
    "21960",
    "1,960",
    "3.5",
    "Esk",
    "esk's",
    "Old",
    "São",
    "the",
    "<b>",
    "Document",
]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
documents = st.builds(Document, title=texts, text=texts)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def question_sets(draw) -> list[Question]:
    """One to four questions whose documents may repeat each other's."""
    shared = draw(st.lists(documents, min_size=4, max_size=20))
    questions = []
    for i in range(draw(st.integers(1, 4))):
        evidence = tuple(dict.fromkeys(draw(st.lists(st.sampled_from(shared), min_size=1, max_size=3))))
        own = draw(st.lists(st.sampled_from(shared), max_size=6))
        answers = tuple(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)))
        questions.append(
            Question(
                id=f"q{i}",
                text=draw(texts),
                answers=answers,
                evidence=evidence,
                distractors=tuple(each for each in own if each not in evidence),
                hops=(),
                num_hops=len(evidence),
            )
        )
    return questions


budgets = st.tuples(st.sampled_from([0, 60, 100]), st.integers(101, 300))


@RELAXED
@given(question_sets(), budgets, st.integers(0, 3), st.integers(0, 2))
def test_contexts(questions, budget, seed, surplus):
    renderer = WordRenderer(surplus=surplus)
    synthesizer = Synthesizer(questions, renderer, seed)
    for question in questions:
        try:
            contexts = synthesizer.contexts(question, *budget)
        except Skip:
            continue
        assert contexts == Synthesizer(questions, renderer, seed).contexts(question, *budget)
        words = answer_words(question.answers)
        gold = {normalize(document.text) for document in question.evidence}
        for context, limit in zip(contexts, budget):
            assert context.tokens == renderer.count(context.prompt)
            assert context.tokens <= limit or limit == 0
            for position, document in zip(context.positions, question.evidence):  # verbatim
                assert COT.heading(position) + COT.body(document) in context.prompt
            assert all(0 <= depth <= 1 for depth in context.depths)
            others = [text for i, text in enumerate(parts(context.prompt), 1) if i not in context.positions]
            assert len(others) == context.documents - len(question.evidence)
            normal = [normalize(text.split("\n", 1)[1]) for text in others]
            assert len(set(normal)) == len(normal) and gold.isdisjoint(normal)
            assert not any(has_answer(f" {normalize(text)} ", words) for text in others)


@RELAXED
@given(question_sets(), budgets)
def test_sums_of_parts_keep_the_budget_where_they_are_upper_bounds(questions, budget):
    renderer = WordRenderer(surplus=1)
    for question in questions:
        try:
            contexts = Synthesizer(questions, renderer, 0, verify=False).contexts(question, *budget)
        except Skip:
            continue
        for context, limit in zip(contexts, budget):
            assert renderer.count(context.prompt) <= context.tokens
            assert context.tokens <= limit or limit == 0


def parts(prompt: str) -> list[str]:
    """The documents of a prompt, in order."""
    context = prompt.removeprefix("Read the following documents.\n\n").split("Answer the question from the documents")[
        0
    ]
    found, number = [], 1
    while context:
        assert context.startswith(COT.heading(number))
        text, context = context.removeprefix(COT.heading(number)).split("\n\n", 1)
        found.append(text)
        number += 1
    return found
