"""The grid: lengths, depths, nesting, who takes part, and when it is made again; on a renderer that counts words."""

import json
import os
import random
import re
from collections import defaultdict
from functools import partial

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.evaluate.grid import make_grid, multi_doc, read_contexts, ready_grid, single_doc
from tests.helpers.evaluation import eval_arguments
from tests.helpers.questions import WordRenderer, paragraph, record, write_lines
from tests.questions.test_contexts import parts


@pytest.fixture
def make_args(tmp_path):
    return partial(eval_arguments, tmp_path)


def grid(args) -> list[dict]:
    make_grid(args, WordRenderer())
    return read_contexts(args)


@pytest.mark.parametrize("task", ["multi_doc", "single_doc"])
def test_every_question_in_every_cell_within_its_length(make_args, task):
    args = make_args(task=task)
    rows = grid(args)
    cells = defaultdict(list)
    for row in rows:
        cells[row["length"], row["depth"]].append(row["question_id"])
        assert row["id"] == f"{row['question_id']}|{row['length']}|{row['depth']:g}"
        assert row["tokens"] == WordRenderer().count(row["prompt"]) <= row["length"]
        assert row["length"] - row["tokens"] < 60  # less than a document
        documents = parts(row["prompt"])
        assert len(documents) == row["documents"]
        assert [documents[position - 1].split("\n")[0] for position in row["positions"]] == row["evidence"]
        assert row["prompt"].endswith(row["question"]) and row["licence"] == "CC BY 4.0"
    assert list(cells) == [(length, depth) for length in args.lengths for depth in args.depths]
    (questions,) = {tuple(each) for each in cells.values()}
    assert len(questions) == len(set(questions)) == 12


def test_depths_as_near_as_is_allowed_have_ids_of_their_own(make_args):
    rows = grid(make_args(depths=[0.333333, 0.333334]))
    assert len({row["id"] for row in rows}) == len(rows) == 12 * 3 * 2


@pytest.mark.parametrize("task", ["multi_doc", "single_doc"])
def test_evidence_stands_where_asked(make_args, task):
    for row in grid(make_args(task=task)):
        total, count, positions = row["documents"], len(row["evidence"]), row["positions"]
        if task == "single_doc":
            assert positions == list(range(positions[0], positions[0] + count))
            assert abs((positions[0] - 1) - row["depth"] * (total - count)) <= 0.5
        else:
            assert abs((positions[0] - 1) - row["depth"] * (total - 1)) <= 0.5
            gaps = [(b - a) % total for a, b in zip(positions, positions[1:] + positions[:1])]
            assert sum(gaps) == total and max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("place", [single_doc, multi_doc])
def test_places_are_distinct_and_inside(place):
    for total in range(1, 30):
        for count in range(1, min(total, 6) + 1):
            for depth in (0, 0.1, 0.25, 0.5, 0.9, 1):
                places = place(depth, random.Random(0), total, count)
                assert len(set(places)) == count and set(places) <= set(range(total))
    assert single_doc(0, random.Random(0), 9, 2) == [0, 1] and single_doc(1, random.Random(0), 9, 2) == [7, 8]
    assert multi_doc(0, random.Random(0), 9, 3) == [0, 3, 6] and multi_doc(1, random.Random(0), 9, 3) == [8, 2, 5]


def test_a_longer_context_holds_the_shorter_one(make_args):
    documents = defaultdict(dict)
    for row in grid(make_args()):
        documents[row["question_id"], row["depth"]][row["length"]] = set(parts(row["prompt"]))
    for by_length in documents.values():
        assert by_length[320] < by_length[700] < by_length[1200]


def test_the_depth_changes_nothing_but_the_evidences_place(make_args):
    orders = defaultdict(set)
    for row in grid(make_args()):
        documents = parts(row["prompt"])
        gold = {documents[position - 1] for position in row["positions"]}
        orders[row["question_id"], row["length"]].add(tuple(each for each in documents if each not in gold))
    assert {len(each) for each in orders.values()} == {1}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(make_args, tmp_path):
    grid(make_args())
    one = make_args().contexts_path.read_bytes()
    two = make_args(output=str(tmp_path / "two"), preprocessing_num_workers=2)
    grid(two)
    assert two.contexts_path.read_bytes() == one
    other = make_args(output=str(tmp_path / "other"), seed=1)
    grid(other)
    assert other.contexts_path.read_bytes() != one


def test_a_question_over_the_smallest_length_takes_no_part(make_args):
    args = make_args(lengths=[190, 700], num_questions=999)
    summary = make_grid(args, WordRenderer())
    assert summary["skipped"]["evidence over the smallest length"] > 0
    assert summary["questions"] + sum(summary["skipped"].values()) == summary["read"]
    with pytest.raises(SolopoError, match=r"no question .* fits lengths from 20 .* take \d+ to \d+ tokens, so begin"):
        make_grid(make_args(lengths=[20, 700]), WordRenderer())


def test_the_length_that_is_named_is_enough(make_args):
    with pytest.raises(SolopoError) as caught:
        make_grid(make_args(lengths=[20, 700]), WordRenderer())
    named = int(str(caught.value).split("begin lengths at ")[1].split()[0])
    assert make_grid(make_args(lengths=[named, 700], num_questions=999), WordRenderer())["questions"] > 100


def test_too_few_documents_name_the_length_and_leave_nothing(make_args, tmp_path):
    path = write_lines(tmp_path / "in.jsonl", record(), record(id="other"))
    args = make_args(source="musique", input=str(path), lengths=[90, 500])
    with pytest.raises(SolopoError, match="length 500 cannot be filled: .* give contexts of .* drop lengths from 500"):
        make_grid(args, WordRenderer())
    assert not args.contexts_path.exists() and not args.grid_path.exists()
    with pytest.raises(SolopoError) as caught:
        make_grid(make_args(source="musique", input=str(path), lengths=[500, 900]), WordRenderer())
    named = int(str(caught.value).split("write lengths of ")[1].split()[0])
    make_grid(make_args(source="musique", input=str(path), lengths=[named]), WordRenderer())
    corpus = write_lines(tmp_path / "corpus.jsonl", *({"text": f"Hill {i} is far away."} for i in range(99)))
    summary = make_grid(
        make_args(source="musique", input=str(path), corpus=str(corpus), lengths=[90, 500]), WordRenderer()
    )
    assert summary["short"] == {"90": 0, "500": 0}


def test_no_question_at_all(make_args, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(SolopoError, match="holds no questions"):
        make_grid(make_args(source="musique", input=str(empty)), WordRenderer())
    unanswerable = write_lines(tmp_path / "in.jsonl", record(answerable=False))
    with pytest.raises(SolopoError, match="cannot be used: 1 of 1 questions cannot be used, unanswerable"):
        make_grid(make_args(source="musique", input=str(unanswerable)), WordRenderer())


def pair(**changes) -> dict:
    meta = {"question": "Another?", "evidence": []}
    return {
        "id": "1",
        "short_prompt": "",
        "long_prompt": "",
        "meta": json.dumps({**meta, **changes.pop("meta", {})}),
        **changes,
    }


def test_training_questions_and_their_evidence_are_left_out(make_args, tmp_path):
    def read(*pairs) -> dict:
        questions = [
            record(id="a", question="First question?"),
            record(id="b", question="Second question?", paragraphs=[
                paragraph(0, "Dune Song", "Another text of this title.", True),
                *record()["paragraphs"][1:2],
                paragraph(2, "Ada Marl", "Ada Marl was born in Esk, it says.", True),
            ]),
            record(id="c", question="Third question?"),
        ]  # fmt: skip
        path = write_lines(tmp_path / "in.jsonl", *questions)
        exclude = write_lines(tmp_path / "pairs.jsonl", *pairs)
        args = make_args(source="musique", input=str(path), exclude=str(exclude), lengths=[90], depths=[0])
        corpus = write_lines(tmp_path / "corpus.jsonl", *({"text": f"Hill {i} is far away."} for i in range(99)))
        args.corpus = str(corpus)
        summary = make_grid(args, WordRenderer())
        return {row["question_id"] for row in read_contexts(args)}, summary["skipped"]

    assert read(pair()) == ({"a", "b", "c"}, {})
    assert read(pair(id="a")) == ({"b", "c"}, {"in training": 1})
    assert read(pair(meta={"question": "third QUESTION"})) == ({"a", "b"}, {"in training": 1})
    prompt = "Document 1:\nDune Song\nDune Song is a novel by Ada Marl.\n\nQuestion: x"
    evidence = {"meta": {"evidence": ["Dune Song"]}, "short_prompt": prompt}
    # b has evidence of the same title with another text
    assert read(pair(**evidence)) == ({"b"}, {"evidence in training": 2})
    assert read(pair(**evidence | {"meta": {"evidence": []}})) == ({"a", "b", "c"}, {})  # it was a distractor there
    with pytest.raises(SolopoError, match="pairs.jsonl line 1 is no training pair"):
        read({"prompt": "x"})


def test_the_wording_is_that_of_the_training_pairs_or_the_difference_is_said(make_args, tmp_path):
    own = {"instruction": "Go.", "document": "{text}"}
    one, mixed, old = (tmp_path / f"{name}.jsonl" for name in ("one", "mixed", "old"))
    write_lines(one, pair(meta={"wording": "direct"}))
    write_lines(mixed, pair(meta={"wording": own}), pair(meta={"wording": "direct"}))
    write_lines(old, pair())
    args = make_args(exclude=str(one))
    assert args.wording == "direct"
    assert make_grid(args, WordRenderer())["other_texts"] == []
    assert "Write only the answer" in read_contexts(args)[0]["prompt"]
    assert make_args(exclude=str(old)).wording == make_args().wording == "cot"
    assert make_grid(make_args(exclude=str(one), wording="cot"), WordRenderer())["other_texts"] == [
        "instruction",
        "marker",
    ]
    args = make_args(exclude=str(mixed))
    assert args.wording == own
    assert make_grid(args, WordRenderer())["other_texts"] == ["document", "instruction"]
    broken = write_lines(tmp_path / "broken.jsonl", {"meta": "[]"})
    with pytest.raises(SolopoError, match="broken.jsonl line 1 is no training pair"):
        make_args(exclude=str(broken))


def test_evidence_in_training_is_found_in_any_wording(make_args, tmp_path):
    path = write_lines(tmp_path / "in.jsonl", record(id="a"), record(id="b", question="Else?"))
    prompt = "<Dune Song> Dune Song is a novel by Ada Marl.\n\nGo."
    meta = {"wording": {"instruction": "Go.", "document": "<{title}> {text}"}, "evidence": ["Dune Song"]}
    exclude = write_lines(tmp_path / "pairs.jsonl", pair(short_prompt=prompt, meta=meta))
    args = make_args(source="musique", input=str(path), exclude=str(exclude), lengths=[90], depths=[0])
    with pytest.raises(SolopoError, match="2 evidence in training"):
        make_grid(args, WordRenderer())


@pytest.mark.parametrize("length", [500, 900])
def test_the_tokens_that_documents_give_are_below_the_length_that_they_do_not_fill(make_args, tmp_path, length):
    """Most of the documents are too long for what is left."""
    long = " ".join(["far"] * 150)
    path = write_lines(tmp_path / "in.jsonl", *(record(id=str(i), question=f"{'Where ' * i}?") for i in range(5)))
    corpus = write_lines(tmp_path / "corpus.jsonl", {"text": f"Hill {long}"}, {"text": f"Dale {long}"})
    args = make_args(source="musique", input=str(path), corpus=str(corpus), lengths=[90, length])
    with pytest.raises(SolopoError) as caught:
        make_grid(args, WordRenderer())
    named = re.search(r"contexts of (\d+) tokens at most for (\d+) of (\d+) questions", str(caught.value)).groups()
    assert int(named[0]) < length and 0 < int(named[1]) <= int(named[2])


def test_a_grid_is_kept_until_something_changes(make_args):
    assert ready_grid(make_args()) is None
    summary = make_grid(make_args(), WordRenderer())
    assert ready_grid(make_args()) == summary
    assert ready_grid(make_args(models=[{"name": "other"}], max_new_tokens=3, batch_size=4)) == summary
    assert ready_grid(make_args(seed=1)) is None


def test_answers_to_other_contexts_are_refused(make_args):
    args = make_args()
    summary = make_grid(args, WordRenderer())
    args.answers_path("base").parent.mkdir()
    args.answers_path("base").write_text("")
    assert ready_grid(args) == summary
    with pytest.raises(SolopoError, match=r"holds answers to other contexts \(lengths, seed differ\): write another"):
        ready_grid(make_args(lengths=[320], seed=1))
    os.utime(args.contexts_path)
    assert ready_grid(args) == summary
