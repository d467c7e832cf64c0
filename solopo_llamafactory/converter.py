"""A record of the data file -> the stage's columns, with the reason to drop it where there is one.

Every row is kept here, so that rows are counted on the mapped dataset itself; `drop_reason` is null for good ones.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from datasets import Features, Value

from . import __version__
from .host.imports import DatasetConverter


MESSAGES = [{"role": Value("string"), "content": Value("string")}]
FEATURES = Features(
    {
        "id": Value("string"),
        "data_set": Value("string"),  # its name in dataset_info.json
        "short_prompt": MESSAGES,
        "short_system": Value("string"),
        "long_prompt": MESSAGES,
        "long_system": Value("string"),
        "chosen": Value("string"),
        "rejected": Value("string"),
        "drop_reason": Value("string"),
    }
)

# Role names of the host's sharegpt and openai formats -> the host's own. `tags` in dataset_info.json adds to them.
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "observation": "observation",
    "tool": "observation",
    "function_call": "function",
    "function": "function",
    "system": "system",
}

# The datasets library guesses types for each 10 MB of a JSON file: where every value in one is a date, it makes times
# of them, and text in this form again where the rest of the file is text. How a date was written is lost by then.
REWRITTEN_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


class DropRow(Exception):
    """Carries the reason why a row is dropped."""


@dataclass
class SolopoDatasetConverter(DatasetConverter):
    """Converts a row of a dataset with `"formatting": "solopo"`.

    A prompt is a string (one user message) or a list of chat messages that ends with the user. A system message comes
    first in the list or stands in the field `system`. As in the host's alpaca format, the text of a `query` column
    follows that of the prompt on a new line, and the pairs of a `history` column are earlier turns; both belong to
    both prompts.
    """

    version: str = field(default=__version__)  # part of the datasets cache's fingerprint

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        attr = self.dataset_attr
        row = dict.fromkeys(FEATURES)
        row["id"], row["data_set"] = _example_id(example), attr.key
        try:
            for media in ("images", "videos", "audios"):
                if example.get(getattr(attr, media) or media):
                    raise DropRow(f"has {media}")
            system = example.get(attr.system or "system") or ""
            if not isinstance(system, str):
                raise DropRow("system is not text")
            row["chosen"] = _text(example, attr.chosen, "chosen")
            row["rejected"] = _text(example, attr.rejected, "rejected")
            if row["chosen"].strip() == row["rejected"].strip():
                raise DropRow("chosen equals rejected")
            row["short_system"], row["short_prompt"] = self._prompt(example, attr.prompt, "short_prompt", system)
            row["long_system"], row["long_prompt"] = self._prompt(example, attr.long_prompt, "long_prompt", system)
        except DropRow as reason:
            return {
                **dict.fromkeys(FEATURES),
                "id": row["id"],
                "data_set": row["data_set"],
                "drop_reason": str(reason),
            }
        return row

    def _prompt(self, example: dict, column: str, name: str, system: str) -> tuple[str, list[dict[str, str]]]:
        value = example.get(column)
        history, query = self._history(example), self._query(example)
        if isinstance(value, list) and value:
            if history or query:
                raise DropRow(f"{name} is a list of messages beside a `{'history' if history else 'query'}` column")
            messages = [self._message(message, name) for message in value]
            if messages[0]["role"] == "system":
                system = messages.pop(0)["content"]
            self._check_turns(messages, name)
            return system, messages
        text = "\n".join([_text(example, column, name), *query])
        return system, [*history, {"role": "user", "content": text}]

    def _query(self, example: dict) -> list[str]:
        query = example.get(self.dataset_attr.query) if self.dataset_attr.query else None
        return [] if query is None or not str(query).strip() else [_text(example, self.dataset_attr.query, "query")]

    def _history(self, example: dict) -> list[dict[str, str]]:
        """Earlier turns from pairs of a question and its answer."""
        column = self.dataset_attr.history
        turns = (example.get(column) if column else None) or []
        if not isinstance(turns, list) or not all(_is_pair_of_texts(turn) for turn in turns):
            raise DropRow("history is not a list of [question, answer] pairs of text")
        for text in (text for turn in turns for text in turn):
            _check_date(text, "history")
        roles = ("user", "assistant")
        return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn)]

    def _message(self, message: Any, name: str) -> dict[str, str]:
        attr = self.dataset_attr
        if not isinstance(message, dict):
            raise DropRow(f"{name} has a message that is not an object")
        roles = ROLES | {
            attr.user_tag: "user",
            attr.assistant_tag: "assistant",
            attr.observation_tag: "observation",
            attr.function_tag: "function",
            attr.system_tag: "system",
        }
        role = _first(message, attr.role_tag, "role", "from")
        content = _first(message, attr.content_tag, "content", "value")
        if not isinstance(role, str) or roles.get(role) is None:
            raise DropRow(f"{name} has an odd role")
        if not isinstance(content, str):
            raise DropRow(f"{name} has a message without text")
        _check_date(content, name)
        return {"role": roles[role], "content": content}

    @staticmethod
    def _check_turns(messages: list[dict[str, str]], name: str) -> None:
        asking, answering = ("user", "observation"), ("assistant", "function")
        for turn, message in enumerate(messages):
            if message["role"] not in (answering if turn % 2 else asking):
                raise DropRow(f"{name} has roles in an odd order")
        if len(messages) % 2 == 0:
            raise DropRow(f"{name} does not end with the user")
        if not messages[-1]["content"].strip():
            raise DropRow(f"empty {name}")


def _is_pair_of_texts(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def _first(message: dict, *keys: str) -> Any:
    return next((message[key] for key in keys if message.get(key) is not None), None)


def _text(example: dict, column: str, name: str) -> str:
    value = example.get(column)
    if value is None:
        raise DropRow(f"no {name}")
    if isinstance(value, list) and not value:
        raise DropRow(f"empty {name}")
    if not isinstance(value, str):
        raise DropRow(f"{name} is not text")
    if not value.strip():
        raise DropRow(f"empty {name}")
    _check_date(value, name)
    return value


def _check_date(text: str, name: str) -> None:
    if REWRITTEN_DATE.fullmatch(text):
        raise DropRow(f"{name} is a bare date, which reading JSON may have rewritten")


def _example_id(example: dict[str, Any]) -> str:
    if example.get("id") is not None:
        return str(example["id"])
    content = json.dumps(example, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
