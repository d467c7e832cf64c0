"""`solopo synthesize`: its file, its counts, its processes, and when it need not run again."""

import json
import os
import signal

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.synthesize import ready_contexts, synthesize
from tests.helpers.questions import CORPUS, WordRenderer, record, write_lines


@pytest.fixture
def args(tmp_path):
    def make(**changes) -> BuildArguments:
        files = {"input": str(CORPUS), "output": str(tmp_path / "out.jsonl"), "tokenizer": "x", "template": "qwen"}
        sizes = {"source": "musique", "short_tokens": 320, "long_tokens": 1200, "num_contexts": 100}
        return BuildArguments(**{**files, **sizes, "preprocessing_num_workers": 1, **changes})

    return make


def read(path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_processes_change_nothing(args):
    summary = synthesize(args(), WordRenderer())
    one = args().contexts_path.read_bytes()
    assert synthesize(args(preprocessing_num_workers=2), WordRenderer()) == summary
    assert args().contexts_path.read_bytes() == one
    assert len(one.splitlines()) == summary["written"] == 100


def test_rows(args):
    synthesize(args(), WordRenderer())
    for row in read(args().contexts_path):
        meta = row["meta"]
        assert meta["tokens"]["long"] == WordRenderer().count(row["long_prompt"]) <= meta["budgets"]["long"] == 1200
        assert row["hops"] == len(row["evidence"]) and row["answers"] and meta["licence"] == "CC BY 4.0"
        for view in ("short", "long"):
            positions, documents = meta["evidence_positions"][view], meta["documents"][view]
            depths = [(position - 1) / (documents - 1) for position in positions]
            assert meta["evidence_depths"][view] == pytest.approx(depths)
            for position, document in zip(positions, row["evidence"]):
                text = f"Document {position}:\n{document['title']}\n{document['text']}\n\n"
                assert text in row[f"{view}_prompt"]


def test_several_sizes_in_equal_parts(args):
    synthesize(args(long_tokens=[600, 900, 1200], num_contexts=90), WordRenderer())
    rows = read(args().contexts_path)
    sizes = [row["meta"]["budgets"]["long"] for row in rows]
    assert {size: sizes.count(size) for size in sizes} == {600: 30, 900: 30, 1200: 30}
    assert all(size - 60 < row["meta"]["tokens"]["long"] <= size for row, size in zip(rows, sizes))


def test_counts(args, tmp_path):
    good = [record(id=f"q{i}") for i in range(3)]
    bad = [record(id="u", answerable=False), record(id="q0")]
    path = write_lines(tmp_path / "in.jsonl", *good, *bad)
    summary = synthesize(args(source="musique", input=str(path), short_tokens=0), WordRenderer())
    assert (summary["questions"], summary["written"]) == (5, 3)
    assert summary["skipped"] == {"unanswerable": 1, "id seen before": 1}
    assert summary["shortfalls"] == {"short": 0, "long": 3}


def test_contexts_are_made_again_when_something_has_changed(args, tmp_path):
    path = write_lines(tmp_path / "in.jsonl", record(), record(id="other"))
    changes = {"source": "musique", "input": str(path), "short_tokens": 0}
    assert ready_contexts(args(**changes)) is None
    summary = synthesize(args(**changes), WordRenderer())
    assert ready_contexts(args(**changes)) == summary
    assert ready_contexts(args(**changes, n=3, preprocessing_num_workers=2)) == summary  # about other things
    assert ready_contexts(args(**changes, seed=1)) is ready_contexts(args(**changes, num_contexts=1)) is None
    os.utime(path, ns=(0, 0))
    assert ready_contexts(args(**changes)) is None


def test_nothing_is_left_behind_when_no_context_can_be_made(args, tmp_path):
    with pytest.raises(SolopoError, match="no context could be made from .* evidence alone over short_tokens"):
        synthesize(args(short_tokens=20), WordRenderer())
    assert not args().contexts_path.exists() and ready_contexts(args()) is None
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SolopoError, match="holds no questions"):
        synthesize(args(input=str(tmp_path / "empty.jsonl")), WordRenderer())


class DeadlyRenderer(WordRenderer):
    """Its process is killed when it counts, as by a machine without memory left. Not the one that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.made_in = os.getpid()

    def count(self, prompt: str) -> int:
        if os.getpid() != self.made_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().count(prompt)


def test_a_killed_process_ends_the_run_with_a_sentence(args):
    with pytest.raises(SolopoError, match=r"was killed.*write fewer preprocessing_num_workers \(2 now\)"):
        synthesize(args(preprocessing_num_workers=2), DeadlyRenderer())
    assert not args().contexts_path.exists()


def test_a_corpus_of_long_documents_is_a_shortfall(args, tmp_path):
    path = write_lines(tmp_path / "in.jsonl", record(), record(id="other"))
    corpus = write_lines(tmp_path / "corpus.jsonl", *({"text": f"long {i} " * 700} for i in range(20)))
    changes = {"source": "musique", "input": str(path), "corpus": str(corpus), "short_tokens": 0}
    assert synthesize(args(**changes), WordRenderer())["shortfalls"] == {"short": 0, "long": 2}
