"""Questions by article: training, development and test, as the committed list `split.json` has them."""

import json
from pathlib import Path

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import atomic_writer, write_json, write_line
from solopo_llamafactory.questions.sources import read_questions


SPLIT = json.loads(Path(__file__).with_name("split.json").read_text(encoding="utf-8"))
PARTS = ("train", "dev", "test")
HELD_OUT = {"dev": "test", "test": "dev"}  # part -> the part that lends it distractors


def read_articles(path: str) -> list[dict]:
    """The articles of a file in SQuAD's official schema."""
    try:
        articles = json.loads(Path(path).read_text(encoding="utf-8"))["data"]
        return [article for article in articles if article["paragraphs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise SolopoError(f"'{path}' is no file in SQuAD's official schema: give XQuAD's xquad.en.json.") from None


def write_parts(path: str, folder: Path) -> None:
    """Write `train.json`, `dev.json` and `test.json`, and what lends distractors to the latter two.

    A context of the development or the test questions has paragraphs of these two parts only: none has ever stood in a
    training context. Their evidence is that of their own articles.

    Raises:
        SolopoError: where the file lacks articles of the list.
    """
    part_of = {id: part for part in PARTS for ids in SPLIT[part].values() for id in ids}
    parts: dict[str, list[dict]] = {part: [] for part in PARTS}
    for article in read_articles(path):
        found = {part_of.get(question["id"]) for each in article["paragraphs"] for question in each["qas"]}
        if len(found) == 1 and (part := found.pop()):
            parts[part].append(article)
    for part, articles in parts.items():
        if len(articles) < len(SPLIT[part]):
            raise SolopoError(
                f"'{path}' has {len(articles)} of the {len(SPLIT[part])} articles for {part} that split.json lists: give "
                "XQuAD's xquad.en.json."
            )
        write_json(folder / f"{part}.json", {"version": "1.1", "data": articles})
    for part, other in HELD_OUT.items():
        documents = {each.evidence[0] for each in read_questions("squad", str(folder / f"{other}.json"))}
        with atomic_writer(folder / f"{part}_distractors.jsonl") as file:
            for document in sorted(documents, key=lambda document: (document.title, document.text)):
                write_line(file, {"title": document.title, "text": document.text})


def paragraphs_of(path: Path) -> dict[str, int]:
    """A number for the paragraph of each question, by the question's id: questions of one paragraph go together."""
    numbers: dict[str, int] = {}
    evidence: dict[str, int] = {}
    for question in read_questions("squad", str(path)):
        text = question.evidence[0].text
        numbers[question.id] = evidence.setdefault(text, len(evidence))
    return numbers
