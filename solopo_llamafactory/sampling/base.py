"""What all samplers share: their protocol, samples, errors, seeds and neutral sampling parameters."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .arguments import SamplingArguments


# What requests and engines are told beside the arguments, so that no defaults of a server or of a model's files enter. -1 is
# what vLLM, SGLang and llama.cpp of all versions take for no top_k.
NEUTRAL = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


@dataclass(frozen=True)
class Sample:
    """One answer.

    `finish` is `stop`, `length` where it was cut off, or a server's word for another end (content_filter, tool_calls ...).
    """

    text: str
    finish: str


class SampleError(Exception):
    """Leaves one question without samples for this run; the next run asks it again."""


class TooLongError(SampleError):
    """A server refuses a prompt for its length."""


class Sampler(Protocol):
    """What asks a model.

    One that has a method `stream(rows, unasked)` is given all rows at once; it yields the unasked ones with their samples in
    order, or returns None to be asked as the others are.
    """

    workers: int  # calls that may be under way at a time

    def __call__(self, row: dict) -> list[Sample]:
        """Returns the samples of one question, or raises `SampleError`, or `Skip` where it need not be asked."""

    def together(self, rows: Sequence[dict]) -> list[list[Sample] | SampleError]:
        """The samples of several questions asked at once, or why one has none (huggingface with a `batch_size`)."""

    @property
    def window(self) -> int | None:
        """Tokens that the model takes, prompt and answer together, where that is known."""

    def close(self) -> None:
        """Gives the model's memory, or the connection, back."""


def seed_of(args: SamplingArguments, row: dict, index: int) -> int:
    """Seed (31 bits) of the samples that are asked for together, `index` being the first one's."""
    digest = hashlib.sha256(f"{args.seed}|{row['id']}|{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def reason(error: BaseException) -> str:
    """An error and its cause on one line; many a client's own words say little."""
    said = [hide_key(" ".join(str(each).split())) for each in (error, error.__cause__) if each is not None]
    return ": ".join(filter(None, said))[:300] or type(error).__name__


def hide_key(text: str) -> str:
    """Some servers repeat a key that they refuse; it must not get into logs."""
    key = os.environ.get("OPENAI_API_KEY")
    return text.replace(key, "OPENAI_API_KEY") if key else text
