"""What a model was trained on, from the file that `solopo build` wrote: the argument `exclude`."""

import json
from collections import defaultdict

from ..common.errors import SolopoError
from ..questions.sources import Question
from ..questions.sources.records import read_file
from ..questions.text import normalize
from ..questions.wording import Wording, differences, read_wording


EARLIER = "cot"  # of pairs that do not name their wording


class TrainingPairs:
    """The questions, the evidence and the wordings of training pairs."""

    def __init__(self, path: str) -> None:
        self._ids: set[str] = set()
        self._questions: set[str] = set()
        self._prompts: dict[str, list[str]] = defaultdict(list)  # by the titles of their evidence
        self._wordings: dict[str, Wording] = {}  # by their JSON
        for where, row in read_file(path):
            try:
                meta = json.loads(row["meta"])
                wording = meta.get("wording", EARLIER)
                self._ids.add(row["id"])
                self._questions.add(normalize(meta["question"]))
                for title in meta["evidence"]:
                    self._prompts[title].append(row["short_prompt"])
            except (AttributeError, KeyError, TypeError, ValueError):
                raise _no_pair(where) from None
            if (key := json.dumps(wording)) not in self._wordings:
                self._wordings[key] = read_wording(wording)

    def problem(self, question: Question) -> str | None:
        """Why a question is not held out."""
        if question.id in self._ids or normalize(question.text) in self._questions:
            return "in training"
        for document in question.evidence:
            bodies = [wording.body(document) for wording in self._wordings.values()]
            prompts = self._prompts.get(document.title, ())
            if any(body in prompt for prompt in prompts for body in bodies):
                return "evidence in training"
        return None

    def other_texts(self, wording: Wording) -> list[str]:
        """The keys by which a wording differs from that of any pair."""
        return sorted({key for other in self._wordings.values() for key in differences(wording, other)})


def wording_of_pairs(path: str) -> str | dict:
    """The `wording` that the first pair of a file names.

    Raises:
        SolopoError: for a file without pairs.
    """
    for where, row in read_file(path):
        try:
            return json.loads(row["meta"]).get("wording", EARLIER)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _no_pair(where) from None
    return EARLIER


def _no_pair(where: str) -> SolopoError:
    return SolopoError(
        f"exclude: {where} is no training pair with `id` and `meta` as `solopo build` writes them: give its output."
    )
