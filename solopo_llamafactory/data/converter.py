"""A record of the data file -> the stage's columns, with the reason to drop it where there is one.

Every row is kept here, so that rows are counted on the mapped dataset itself; `drop_reason` is null for good ones.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from datasets import Features, Value

from .. import __version__
from ..host.imports import DatasetConverter


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
        "gold": Value(
            "string"
        ),  # JSON of what `solopo build` knows of the question: its answers, and the prompt's wording
        "drop_reason": Value("string"),
        "drop_value": Value("string"),  # what stands there instead, shortened, and where
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

SHOWN = 80  # characters of a wrong value

# The datasets library guesses types for each 10 MB of JSON (of the hub; files are read by our own reader): where every value
# is a date, it makes times of them, and text in this form again where the rest is text. How a date was written is lost by then.
REWRITTEN_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


class DropRow(Exception):
    """Carries the reason why a row is dropped, and the value that is wrong where there is one to show."""

    def __init__(self, reason: str, value: Any = None) -> None:
        super().__init__(reason)
        self.value = None if value is None else _shortened(value)

    def columns(self, place: str) -> dict[str, str]:
        """What the row holds of it."""
        return {"drop_reason": str(self), "drop_value": place if self.value is None else f"{self.value} in {place}"}


@dataclass
class SolopoDatasetConverter(DatasetConverter):
    """Converts a row of a dataset with `"formatting": "solopo"`.

    A prompt is a string (one user message), a message, or a list of messages that ends with the user. A system message comes
    first in the list or stands in the field `system`. As in the host's alpaca format, the text of a `query` column
    follows that of the prompt on a new line, and the pairs of a `history` column are earlier turns; both belong to
    both prompts. An answer is a string or a message of the assistant, alone or in a list.
    """

    version: str = field(default=__version__)  # part of the datasets cache's fingerprint

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        attr = self.dataset_attr
        if attr.fields is not None:  # a table of JSON records
            record = json.loads(example["record"])
            place = example["place"]
            example = record if record.get("id") is not None else {**record, "id": place}
        else:
            place = _example_id(example)
        names = {"id": _example_id(example), "data_set": attr.key}
        try:
            row = dict.fromkeys(FEATURES) | names | self._row(example)
            if attr.fields is None:
                _check_dates(row)
        except DropRow as reason:
            return dict.fromkeys(FEATURES) | names | reason.columns(place)
        return row

    def _row(self, example: dict[str, Any]) -> dict[str, Any]:
        attr = self.dataset_attr
        for media in ("images", "videos", "audios"):
            if example.get(getattr(attr, media) or media):
                raise DropRow(f"has {media}")
        system = example.get(attr.system or "system") or ""
        if not isinstance(system, str):
            raise DropRow("system is not text", system)
        chosen, rejected = (self._answer(example.get(getattr(attr, key)), key) for key in ("chosen", "rejected"))
        if chosen.strip() == rejected.strip():
            raise DropRow("chosen equals rejected", chosen)
        query, history = self._query(example), self._history(example)
        row = {"chosen": chosen, "rejected": rejected, "gold": _gold(example.get("meta"))}
        for name, column in (("short", attr.prompt), ("long", attr.long_prompt)):
            prompt = self._prompt(example.get(column), f"{name}_prompt", system, query, history)
            row[f"{name}_system"], row[f"{name}_prompt"] = prompt
        return row

    def _answer(self, value: Any, name: str) -> str:
        messages = [value] if isinstance(value, dict) else value
        if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
            *others, answer = (self._message(message, name) for message in messages)
            if answer["role"] != "assistant":
                raise DropRow(f"{name} is no message of the assistant", value)
            if others:
                raise DropRow(f"{name} holds messages before the answer", value)
            value = answer["content"]
        return _text(value, name)

    def _query(self, example: dict) -> str | None:
        value = example.get(self.dataset_attr.query) if self.dataset_attr.query else None
        return None if value is None or not str(value).strip() else _text(value, "query")

    def _history(self, example: dict) -> list[dict[str, str]]:
        """Earlier turns from pairs of a question and its answer."""
        turns = (example.get(self.dataset_attr.history) if self.dataset_attr.history else None) or []
        if not isinstance(turns, list) or not all(_is_pair_of_texts(turn) for turn in turns):
            raise DropRow("history is not a list of [question, answer] pairs of text", turns)
        roles = ("user", "assistant")
        return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn)]

    def _prompt(
        self, value: Any, name: str, system: str, query: str | None, history: list[dict[str, str]]
    ) -> tuple[str, list[dict[str, str]]]:
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list) and value:
            if query or history:
                column = "query" if query else "history"
                raise DropRow(f"{name} is a list of messages beside a `{column}` column")
            messages = [self._message(message, name) for message in value]
            if messages[0]["role"] == "system":
                system = messages.pop(0)["content"]
            _check_turns(messages, name)
            return system, messages
        text = _text(value, name)
        return system, [*history, {"role": "user", "content": text if query is None else f"{text}\n{query}"}]

    def _message(self, message: Any, name: str) -> dict[str, str]:
        attr = self.dataset_attr
        if not isinstance(message, dict):
            raise DropRow(f"{name} has a message that is not an object", message)
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
            raise DropRow(f"{name} has an odd role", message)
        if _is_list_of_parts(content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise DropRow(f"{name} has a message without text", message)
        return {"role": roles[role], "content": content}


def _check_turns(messages: list[dict[str, str]], name: str) -> None:
    asking, answering = ("user", "observation"), ("assistant", "function")
    for turn, message in enumerate(messages):
        if message["role"] not in (answering if turn % 2 else asking):
            raise DropRow(f"{name} has roles in an odd order", [message["role"] for message in messages])
    if len(messages) % 2 == 0:
        raise DropRow(f"{name} does not end with the user", [message["role"] for message in messages])
    if not messages[-1]["content"].strip():
        raise DropRow(f"empty {name}")


def _is_pair_of_texts(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def _is_list_of_parts(content: Any) -> bool:
    """Whether a message's content is text in OpenAI's form for several media."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _first(message: dict, *keys: str) -> Any:
    return next((message[key] for key in keys if message.get(key) is not None), None)


def _text(value: Any, name: str) -> str:
    if value is None:
        raise DropRow(f"no {name}")
    if isinstance(value, list) and not value:
        raise DropRow(f"empty {name}")
    if not isinstance(value, str):
        raise DropRow(f"{name} is not text", value)
    if not value.strip():
        raise DropRow(f"empty {name}")
    return value


def _gold(meta: Any) -> str | None:
    """What `meta`, as `solopo build` writes it, tells of right answers; None for a `meta` of anyone else's."""
    try:
        meta = json.loads(meta) if isinstance(meta, str) else meta
        answers = meta["answers"]
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        return None
    return json.dumps({"answers": answers, "wording": meta.get("wording")})


def _check_dates(row: dict[str, Any]) -> None:
    for name in ("short_prompt", "long_prompt", "chosen", "rejected"):
        texts = [row[name]] if isinstance(row[name], str) else [message["content"] for message in row[name]]
        for text in filter(REWRITTEN_DATE.fullmatch, texts):
            raise DropRow(f"{name} is a bare date, which the datasets library may have rewritten", text)


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _example_id(example: dict[str, Any]) -> str:
    if example.get("id") is not None:
        return str(example["id"])
    content = json.dumps(example, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
