"""The committed demo corpus: a sound set of questions."""

import json
import re

from tests.helpers.questions import CORPUS


RECORDS = [json.loads(line) for line in CORPUS.read_text(encoding="ascii").splitlines()]


def holds(text: str, answers: list[str]) -> bool:
    return any(re.search(rf"\b{re.escape(answer)}\b", text, re.IGNORECASE) for answer in answers)


def test_size_and_schema():
    assert len(RECORDS) == 200
    hops = [len(record["question_decomposition"]) for record in RECORDS]
    assert (hops.count(2), hops.count(3)) == (120, 80)
    assert len({record["id"] for record in RECORDS}) == len({record["question"] for record in RECORDS}) == 200
    for record in RECORDS:
        support = [step["paragraph_support_idx"] for step in record["question_decomposition"]]
        gold = [p["idx"] for p in record["paragraphs"] if p["is_supporting"]]
        assert sorted(support) == gold and [p["idx"] for p in record["paragraphs"]] == list(range(6))


def test_one_text_for_one_title_and_its_length():
    texts = {}
    for p in (p for record in RECORDS for p in record["paragraphs"]):
        assert texts.setdefault(p["title"], p["paragraph_text"]) == p["paragraph_text"]
        assert 40 <= len(p["paragraph_text"].split()) <= 90
    assert len(texts) > 250


def test_answers_stand_in_the_last_gold_paragraph_only():
    for record in RECORDS:
        answers = [record["answer"], *record["answer_aliases"]]
        steps = record["question_decomposition"]
        by_idx = {p["idx"]: p for p in record["paragraphs"]}
        assert steps[-1]["answer"] == record["answer"] and not holds(record["question"], answers)
        for step in steps:
            assert holds(by_idx[step["paragraph_support_idx"]]["paragraph_text"], [step["answer"]])
        last = steps[-1]["paragraph_support_idx"]
        for idx, p in by_idx.items():
            assert holds(f"{p['title']} {p['paragraph_text']}", answers) == (idx == last)
