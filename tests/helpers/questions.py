"""A renderer without a tokenizer, and records made by hand: what most construction tests need."""

import json
from pathlib import Path

from solopo_llamafactory.questions.sources import MusiqueSource, Question
from tests.helpers.runs import ROOT


CORPUS = ROOT / "data" / "demo_corpus.jsonl"
MUSIQUE = ROOT.parent / "shared" / "data" / "musique_train_100.jsonl"
XQUAD = ROOT.parent / "shared" / "data" / "xquad_en_42.json"  # CC BY-SA 4.0


class WordRenderer:
    """Counts words, plus a fixed template. Pieces may be counted longer or shorter than they are in the prompt."""

    def __init__(self, template: int = 7, surplus: int = 0) -> None:
        self.template = template
        self.surplus = surplus

    def count(self, prompt: str) -> int:
        return self.template + len(prompt.split())

    def piece_lengths(self, texts: list[str]) -> list[int]:
        return [max(1, len(text.split()) + self.surplus) for text in texts]


def paragraph(idx: int, title: str, text: str, supporting: bool = False) -> dict:
    return {"idx": idx, "title": title, "paragraph_text": text, "is_supporting": supporting}


def record(**changes) -> dict:
    """A two-hop MuSiQue record; keyword arguments replace fields."""
    return {
        "id": "2hop__1_2",
        "question": "Where was the author of Dune Song born?",
        "answer": "Esk",
        "answer_aliases": ["Old Esk"],
        "answerable": True,
        "paragraphs": [
            paragraph(0, "Dune Song", "Dune Song is a novel by Ada Marl.", True),
            paragraph(1, "Salt Song", "Salt Song is a novel by Ivo Tarn."),
            paragraph(2, "Ada Marl", "Ada Marl was born in Esk and died in Pelm.", True),
            paragraph(3, "Ivo Tarn", "Ivo Tarn was born in Orm."),
        ],
        "question_decomposition": [
            {"id": 1, "question": "Dune Song >> author", "answer": "Ada Marl", "paragraph_support_idx": 0},
            {"id": 2, "question": "Where was #1 born ?", "answer": "Esk", "paragraph_support_idx": 2},
        ],
        **changes,
    }


def write_lines(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in records), encoding="utf-8")
    return path


def demo_questions() -> list[Question]:
    return list(MusiqueSource().read(str(CORPUS)))
