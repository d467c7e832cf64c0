"""Records made by hand, in the official schemas and in those of the Hub."""


def hotpot(**changes) -> dict:
    """A HotpotQA record; keyword arguments replace fields."""
    return {
        "_id": "5a7a0693",
        "question": "Where was the author of Dune Song born?",
        "answer": "Esk",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["Dune Song", 0], ["Ada Marl", 1], ["Dune Song", 1]],
        "context": [
            ["Salt Song", ["Salt Song is a novel.", " It is by Ivo Tarn."]],
            ["Ada Marl", ["Ada Marl wrote novels in the U.S", ".-style.", " She was born in Esk."]],
            ["Dune Song", ["Dune Song is a novel.", " It is by Ada Marl. "]],
        ],
        **changes,
    }


def twowiki(**changes) -> dict:
    """A 2WikiMultihopQA record; keyword arguments replace fields."""
    return {
        "_id": "8813f87c0bdd11eba7f7acde48001122",
        "type": "bridge_comparison",
        "question": "Which author was born first, that of Dune Song or that of Salt Song?",
        "answer": "Ada Marl",
        "answer_id": "Q1",
        "evidences": [["Dune Song", "author", "Ada Marl"], ["Salt Song", "author", "Ivo Tarn"]],
        "evidences_id": [],
        "supporting_facts": [["Dune Song", 0], ["Salt Song", 0], ["Ada Marl", 0], ["Ivo Tarn", 0]],
        "context": [
            ["Ada Marl", ["Ada Marl was born in 1901.", "She wrote novels."]],
            ["Ivo Tarn", ["Ivo Tarn was born in 1907."]],
            ["Dune Song", ["Dune Song is a novel.", "", "It is by Ada Marl."]],
            ["Salt Song", ["Salt Song is a novel by Ivo Tarn."]],
            ["Orm", ["Orm is a town."]],
        ],
        **changes,
    }


def on_the_hub(record: dict) -> dict:
    """The same record as a data set on the Hub has it."""
    record = dict(record)
    for key, names in {"context": ("title", "sentences"), "supporting_facts": ("title", "sent_id")}.items():
        record[key] = {name: [pair[i] for pair in record[key]] for i, name in enumerate(names)}
    return {"id": record.pop("_id"), **record}


def squad(*paragraphs: dict, title: str = "Dune_Song", version: str = "1.1") -> dict:
    """A file of SQuAD's official schema with one article."""
    return {"version": version, "data": [{"title": title, "paragraphs": list(paragraphs or [squad_paragraph()])}]}


def squad_paragraph(context: str = "Ada Marl wrote it in Esk, in 1901.", **changes) -> dict:
    """A paragraph with one question; keyword arguments replace the question's fields."""
    answers = [{"text": "Esk", "answer_start": 21}, {"text": "in Esk", "answer_start": 18}]
    return {
        "context": context,
        "qas": [{"id": "q1", "question": "Where was it written?", "answers": answers, **changes}],
    }


def squad_columns(**changes) -> dict:
    """The same question as the Hub has it; keyword arguments replace columns."""
    return {
        "id": "q1",
        "title": "Dune_Song",
        "context": "Ada Marl wrote it in Esk, in 1901.",
        "question": "Where was it written?",
        "answers": {"text": ["Esk", "in Esk"], "answer_start": [21, 18]},
        **changes,
    }
