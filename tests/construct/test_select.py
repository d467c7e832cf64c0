"""Selection: pairs by sub-EM, their policies, and a held-out part that shares no evidence."""

import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.select import choose_held_out, count_pairs, judge, pick, select
from solopo_llamafactory.questions.wording import WORDINGS
from solopo_llamafactory.sampling.answer_file import Settings
from solopo_llamafactory.sampling.base import Sample
from solopo_llamafactory.sampling.marks import Marks
from tests.helpers.questions import CORPUS, WordRenderer, write_lines


def make_sample(text: str, finish: str = "stop") -> Sample:
    return Sample(text, finish)


def context(id: str, hops: int = 2, evidence: str | None = None) -> dict:
    return {
        "id": id,
        "question": f"Who is {id}?",
        "answers": ["Ada", "Ms Ada"],
        "hops": hops,
        "short_prompt": f"short {id}",
        "long_prompt": f"long {id}",
        "evidence": [{"title": "T", "text": evidence or f"evidence of {id}"}],
        "meta": {"source": "musique", "licence": "CC BY 4.0"},
    }


def line(id: str, *texts: str) -> dict:
    return {"id": id, "samples": [{"text": t, "finish": "stop", "logp": None} for t in texts]}


@pytest.fixture
def args(tmp_path):
    def make(**changes) -> BuildArguments:
        files = {"input": str(CORPUS), "output": str(tmp_path / "out.jsonl"), "tokenizer": "x", "template": "qwen"}
        return BuildArguments(**{**files, "num_examples": 10, **changes})

    return make


def write(args: BuildArguments, contexts: list[dict], samples: list[dict]) -> None:
    args.folder.mkdir(exist_ok=True)
    write_lines(args.contexts_path, *contexts)
    (args.folder / "synthesis.json").write_text(json.dumps({"arguments": {"seed": 42}}))
    rows = {row["id"]: row for row in contexts}
    settings = Settings(args)
    made_with = {id: settings({**row, "prompt": row["short_prompt"]}) for id, row in rows.items()}
    write_lines(args.samples_path, *({**row, "settings": made_with.get(row["id"], "x")} for row in samples))


def read(path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_samples_are_sorted_by_sub_em():
    samples = [
        make_sample("The answer is Ada."),
        make_sample("  The answer is Ada. "),  # the same again
        make_sample("Ada wrote it. The answer is Ivo."),
        make_sample("The answer is ADA", finish="length"),
        make_sample(" "),
    ]
    judged = judge(samples, ["Ada"])
    assert (judged.right, judged.wrong) == ([samples[0]], [samples[2]])
    assert (judged.num_right, judged.num_samples, judged.cut_off, judged.problem) == (3, 5, 1, None)
    assert judge(samples[:2], ["Ada"]).problem == "no incorrect sample"
    assert judge(samples[2:3], ["Ada"]).problem == "no correct sample"
    assert count_pairs({"answers": ["Ada"]}, samples) and not count_pairs({"answers": ["Bo"]}, samples)


def test_unclear_samples_enter_no_pair():
    samples = [
        make_sample("The answer is Ada. This answer is supported by Document 3."),
        make_sample("**Answer:** Ada\n\nNote: the answer is found in Document 2."),
        make_sample("The answer is in Document 3.\nSo it was Ada."),
        make_sample("Ada taught Bo. The answer is Bo."),
    ]
    judged = judge(samples, ["Ada"])
    assert (judged.right, judged.wrong, judged.unclear) == (samples[:1], samples[3:], 2)


def test_without_a_marker_all_of_an_answer_is_judged():
    samples = [make_sample("Ada. The answer is in Document 3."), make_sample("The answer is Bo.")]
    judged = judge(samples, ["Ada"], markers=WORDINGS["direct"].markers)
    assert (judged.right, judged.wrong, judged.unclear) == (samples[:1], samples[1:], 0)
    row = {"answers": ["Ada"]}
    assert count_pairs(row, samples, markers=None) and not count_pairs(row, samples)


def test_right_samples_that_are_all_cut_off():
    judged = judge([make_sample("The answer is Ada", finish="length"), make_sample("The answer is Bo")], ["Ada"])
    assert judged.problem == "correct samples all cut off"


def test_samples_without_an_answer_and_with_control_tokens_enter_no_pair(args):
    contexts = [context("a"), context("b"), context("c")]
    samples = [
        line("a", "", "<think>It is Ada", "hm</think>"),
        line("b", "<think>Ada?</think>It is Bo", "<think>Bo?</think>It is Ada<|im_end|>", ""),
        line("c", "It is Ada</s>", "It is Bo"),
    ]
    marks = Marks(ends=("<|im_end|>",))
    write(args(), contexts, samples)
    counts = select(args(), WordRenderer(), marks)
    assert counts["hops"] == {
        "2": {"correct samples all unusable": 1, "kept": 1, "no sample with an answer": 1, "questions": 3}
    }
    assert (counts["samples"], counts["end_marks"], counts["sub_em"]) == (8, 1, {"2": 0.25})
    assert counts["unusable"] == {
        "empty": 2,
        "thoughts without an end": 1,
        "thoughts without an answer": 1,
        "control token </s>": 1,
    }
    (pair,) = read(args().folder.parent / "out.jsonl")
    assert (pair["chosen"], pair["rejected"]) == ("<think>Bo?</think>It is Ada", "<think>Ada?</think>It is Bo")
    assert json.loads(pair["meta"])["remove_thoughts"] is False
    select(args(remove_thoughts=True), WordRenderer(), dataclasses.replace(marks, remove_thoughts=True))
    (pair,) = read(args().folder.parent / "out.jsonl")
    assert (pair["chosen"], pair["rejected"]) == ("It is Ada", "It is Bo")


def test_samples_without_any_answer_say_what_to_change(args):
    write(args(), [context("a")], [line("a", "", "")])
    with pytest.raises(SolopoError) as caught:
        select(args(), WordRenderer())
    said = str(caught.value)
    assert "(1 no sample with an answer); 2 of 2 answers hold no answer (2 empty): raise max_new_tokens" in said
    assert "without its reasoning parser (--reasoning-parser)" in said


def test_policies():
    samples = [make_sample("long text"), make_sample("text"), make_sample("a text")]
    assert pick(samples, "shortest", random.Random(0)) == "text"
    assert {pick(samples, "random", random.Random(seed)) for seed in range(30)} == {each.text for each in samples}


def test_pairs_and_counts_by_hand(args):
    contexts = [context("b"), context("a", hops=3), context("c"), context("d"), context("e")]
    samples = [
        line("a", "It is Ada", "It is Bo"),
        line("b", "The answer is Cy", "The answer is Ada"),
        line("c", "It is Bo"),
        line("d", "It is Ada"),
        line("gone", "It is Ada", "It is Bo"),  # of an earlier synthesis
    ]
    write(args(), contexts, samples)
    counts = select(args(), WordRenderer())
    b, a = read(args().folder.parent / "out.jsonl")
    assert (b["id"], b["chosen"], b["rejected"]) == ("b", "The answer is Ada", "The answer is Cy")
    assert (a["id"], a["short_prompt"], a["long_prompt"]) == ("a", "short a", "long a")
    meta = json.loads(b["meta"])
    assert meta["answer_tokens"] == {"chosen": 4, "rejected": 4} and meta["licence"] == "CC BY 4.0"
    assert meta["evidence"] == ["T"] and meta["answers"] == ["Ada", "Ms Ada"]
    assert counts["hops"] == {
        "2": {"kept": 1, "no correct sample": 1, "no incorrect sample": 1, "questions": 3},
        "3": {"kept": 1, "questions": 1},
    }
    assert counts["sub_em"] == {"2": 0.5, "3": 0.5} and counts["samples"] == 6
    assert (counts["train"], counts["held_out"]) == (2, 0) and not args().held_out_path.exists()
    assert json.loads((args().folder / "selection.json").read_text()) == counts


def test_num_examples_and_the_held_out_part(args):
    contexts = [context(f"q{i}") for i in range(9)]
    write(args(), contexts, [line(row["id"], "It is Ada", "It is Bo") for row in contexts])
    chosen = args(num_examples=4, num_held_out=3)
    counts = select(chosen, WordRenderer())
    train, held_out = (
        {row["id"] for row in read(path)} for path in (args().folder.parent / "out.jsonl", chosen.held_out_path)
    )
    assert len(train) == counts["train"] == 4 and len(held_out) == counts["held_out"] == 3
    assert not train & held_out and train | held_out == {f"q{i}" for i in range(7)} and not counts["sharing_evidence"]
    before = chosen.held_out_path.read_bytes()
    select(chosen, WordRenderer())
    assert chosen.held_out_path.read_bytes() == before
    other = args(num_examples=4, num_held_out=3, seed=1)
    write(other, contexts, [line(row["id"], "It is Ada", "It is Bo") for row in contexts])
    select(other, WordRenderer())
    assert chosen.held_out_path.read_bytes() != before
    write(chosen, contexts, [line(row["id"], "It is Ada", "It is Bo") for row in contexts])
    select(args(num_examples=4), WordRenderer())
    assert not chosen.held_out_path.exists()  # not one from before


def test_several_pairs_of_a_question(args):
    """Three right and two wrong answers: three pairs, no two alike, the wrong ones begin anew."""
    contexts = [context("a"), context("b"), context("c")]
    right, wrong = ["It is Ada", "So it is Ada", "Ms Ada"], ["It is Bo", "It is Cy"]
    samples = [line("a", *right, *wrong), line("b", "It is Ada", "It is Bo"), line("c", *right, *wrong)]
    few, many, cut = args(pairs_per_question=2), args(pairs_per_question=9), args(pairs_per_question=9, num_examples=5)
    write(few, contexts, samples)
    by_number = {}
    for chosen in (args(), few, many, cut):
        counts = select(chosen, WordRenderer())
        rows = read(args().folder.parent / "out.jsonl")
        assert len(rows) == counts["train"] and len(
            {(row["id"], row["chosen"], row["rejected"]) for row in rows}
        ) == len(rows)
        by_number[chosen.pairs_per_question, chosen.num_examples] = rows
    ids = {key: [row["id"] for row in rows] for key, rows in by_number.items()}
    assert ids[1, 10] == ["a", "b", "c"] and ids[2, 10] == ["a", "a#2", "b", "c", "c#2"]
    assert ids[9, 10] == ["a", "a#2", "a#3", "b", "c", "c#2", "c#3"] and ids[9, 5] == ids[9, 10][:5]
    assert by_number[9, 10][0] == by_number[1, 10][0]  # more pairs change nothing about the first
    of_a = by_number[9, 10][:3]
    assert {row["chosen"] for row in of_a} == set(right) and {row["rejected"] for row in of_a} == set(wrong)
    assert {json.loads(row["meta"])["question_id"] for row in of_a} == {"a"}
    row = {"answers": ["Ada", "Ms Ada"]}
    texts = [make_sample(text) for text in right + wrong]
    assert [count_pairs(row, texts, most=most) for most in (1, 2, 9)] == [1, 2, 3]


def test_a_held_out_question_gives_one_pair(args):
    contexts = [context(f"q{i}") for i in range(6)]
    chosen = args(num_examples=8, num_held_out=2, pairs_per_question=2)
    write(chosen, contexts, [line(row["id"], "It is Ada", "Ada", "It is Bo", "It is Cy") for row in contexts])
    counts = select(chosen, WordRenderer())
    assert (counts["train"], counts["held_out"]) == (8, 2)
    held_out = {row["id"] for row in read(chosen.held_out_path)}
    trained = {json.loads(row["meta"])["question_id"] for row in read(chosen.folder.parent / "out.jsonl")}
    assert len(held_out) == 2 and trained == {f"q{i}" for i in range(6)} - held_out


def test_of_too_few_pairs_the_same_share_is_held_out(args):
    contexts = [context(f"q{i}") for i in range(9)]
    few = args(num_examples=20, num_held_out=10)
    write(few, contexts, [line(row["id"], "It is Ada", "It is Bo") for row in contexts])
    counts = select(few, WordRenderer())
    assert (counts["train"], counts["held_out"]) == (6, 3)


def test_another_file_of_the_held_out_name_is_left_alone(args):
    write(args(), [context("a")], [line("a", "It is Ada", "It is Bo")])
    args().held_out_path.write_text("mine")
    select(args(), WordRenderer())
    assert args().held_out_path.read_text() == "mine"


def test_samples_of_other_settings_are_refused(args):
    write(args(), [context("a")], [line("a", "It is Ada", "It is Bo")])
    with pytest.raises(SolopoError, match="line 1 was made with other settings"):
        select(args(model_name_or_path="another"), WordRenderer())
    with args().samples_path.open("a") as file:
        file.write('{"id"')
    with pytest.raises(SolopoError, match="line 2 is torn: run `solopo sample`"):
        select(args(), WordRenderer())


def test_shared_evidence_is_counted_where_it_cannot_be_avoided(args):
    contexts = [context(f"q{i}", evidence="THE same") for i in range(4)]
    chosen = args(num_examples=2, num_held_out=2)
    write(chosen, contexts, [line(row["id"], "It is Ada", "It is Bo") for row in contexts])
    counts = select(chosen, WordRenderer())
    assert (counts["train"], counts["held_out"], counts["sharing_evidence"]) == (2, 2, 2)


@given(
    evidence=st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3), st.sets(st.integers(0, 12), min_size=1), min_size=1
    ),
    count=st.integers(0, 8),
    seed=st.integers(0, 5),
)
def test_held_out_questions_are_as_many_as_asked_and_apart_where_possible(evidence, count, seed):
    keys = {id: {str(key) for key in values} for id, values in evidence.items()}
    picked = choose_held_out(keys, count, random.Random(seed))
    assert len(picked) == len(set(picked)) == min(count, len(keys) - 1) and set(picked) <= set(keys)
    alone = [id for id in keys if all(keys[id].isdisjoint(keys[other]) for other in keys if other != id)]
    if count <= len(alone) < len(keys):
        assert set(picked) <= set(alone)


@pytest.mark.parametrize("is_right", [False, True])
def test_no_pair_at_all(args, is_right):
    """What helps where nothing is right does not help where everything is."""
    row = context("a")
    write(args(), [row], [line("a", f"It is {row['answers'][0]}" if is_right else "It is Bo")])
    words = (
        r"1 no incorrect sample\); where all answers are right, raise temperature"
        if is_right
        else r"1 no correct sample\); where none is, sample with a model that answers"
    )
    with pytest.raises(
        SolopoError, match=rf"no pair could be made from the samples of 1 questions \({words}"
    ) as error:
        select(args(), WordRenderer())
    assert "max_new_tokens" not in str(error.value)
    assert not (args().folder.parent / "out.jsonl").exists()


def test_a_missing_step_is_named(args):
    with pytest.raises(SolopoError, match="is missing: run `solopo synthesize`"):
        select(args(), WordRenderer())
    write(args(), [context("a")], [])
    args().samples_path.unlink()
    with pytest.raises(SolopoError, match="samples.jsonl' is missing: run `solopo sample`"):
        select(args(), WordRenderer())
