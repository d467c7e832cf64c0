"""Sampling through a server with OpenAI's interface: vLLM, SGLang, `llamafactory-cli api` or a hosted one."""

import os
import re
import sys
from threading import Lock
from typing import Any

from ..common.errors import SolopoError
from .arguments import SamplingArguments
from .base import NEUTRAL, Sample, SampleError, TooLongError, hide_key, reason, seed_of


PATIENCE = 20.0  # seconds for the first sign of life
# What vLLM, SGLang, llama.cpp and hosted servers say of a prompt that is too long for the model.
TOO_LONG = re.compile(
    r"context.(length|size|window)|longer than|too long|maximum (sequence|input) length", re.IGNORECASE
)
NOT_OPENAIS = ("top_k", "min_p", "repetition_penalty")  # of `NEUTRAL`, what OpenAI's own interface lacks
CUT_OFF_WORDS = re.compile(r"length|max_|maxtokens|limit|context|exceed|predict", re.IGNORECASE)
NOT_WHOLE_WORDS = re.compile(
    r"filter|tool|function|error|abort|cancel|safety|recitation|block|prohibited|refus|insufficient|interrupt|time.?out",
    re.IGNORECASE,
)
WHOLE_WORDS = re.compile(r"stop|eos|end|complete|finish|done|normal", re.IGNORECASE)
REFUSALS = (400, 422, 500)  # of a field; some servers fail on what they do not expect


class ServerSampler:
    """Asks a server; the client repeats requests that fail (no connection, no answer in time, status 408, 409, 429, 5xx)."""

    def __init__(self, args: SamplingArguments) -> None:
        try:
            import openai  # noqa: F401
        except ImportError:
            raise SolopoError(
                'infer_backend is openai and its client is not installed: run `pip install "solopo-llamafactory[sample]"`.'
            ) from None
        self.args = args
        self.workers = args.concurrency
        self._lock = Lock()
        self._client: Any = None
        self._first_request = Lock()
        self._was_asked = False
        self._fields: set[str] | None = (
            None  # of `_optional`, those that the server takes; None before its first answer
        )

    def __call__(self, row: dict) -> list[Sample]:
        """Returns `n` samples.

        Raises:
            SampleError: when the server refuses this question, or has not answered it after all repetitions.
            SolopoError: when there is no such server, or when it cannot do what the arguments ask for.
        """
        if self.args.temperature == 0:
            return self._ask(row, 0, 1)[:1] * self.args.n  # some servers sample where several are asked for
        samples: list[Sample] = []
        while (missing := self.args.n - len(samples)) > 0:  # some servers give one, whatever is asked for
            samples += self._ask(row, len(samples), min(self.args.samples_per_call, missing))[:missing]
        return samples

    @property
    def client(self) -> Any:
        """The client of a server that has answered once."""
        with self._lock:
            if self._client is None:
                self._client = _connect(self.args)
            return self._client

    @property
    def window(self) -> int | None:
        """Tokens that the model takes, prompt and answer together, where the server tells them (vLLM and SGLang do)."""
        from openai import APIError

        try:
            models = {model.id: model for model in self.client.models.list()}
        except (APIError, ValueError, AttributeError, TypeError):  # no such list, or something else instead
            return None
        served = models.get(self.args.model_name_or_path)
        length = getattr(served, "max_model_len", None)
        if length is None and served is not None:  # vLLM tells it for an adapter's base model alone
            length = getattr(models.get(getattr(served, "parent", None)), "max_model_len", None)
        return length

    def close(self) -> None:
        """Ends the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, row: dict, index: int, count: int) -> list[Sample]:
        from openai import APIError, APIStatusError

        try:
            completion = self._complete(row, index, count)
        except APIStatusError as error:
            kind = TooLongError if error.status_code == 400 and TOO_LONG.search(str(error)) else SampleError
            raise kind(f"question {row['id']}: {reason(error)}") from None
        except APIError as error:
            raise SampleError(f"question {row['id']}: {reason(error)}") from None
        choices = getattr(completion, "choices", None)  # whatever came with status 200
        if not choices:
            raise SampleError(f"question {row['id']}: no answers in '{hide_key(str(completion))[:200]}'")
        most = self.args.engine_args.get("max_tokens", self.args.max_new_tokens)
        used = getattr(getattr(completion, "usage", None), "completion_tokens", None)
        is_full = isinstance(used, int) and isinstance(most, int) and used >= most * len(choices)
        return [_sample_of(choice, is_full) for choice in choices]

    def _complete(self, row: dict, index: int, count: int) -> Any:
        """The server's completion. All wait for the first one, which tells the fields that the server takes."""
        if self._fields is None:
            with self._first_request:
                is_first, self._was_asked = not self._was_asked, True
                if is_first:
                    return self._settle(row, index, count)
        if self._fields is None:  # the first one failed for another reason
            return self._settle(row, index, count)
        return self._request(row, index, count, self._fields)

    def _settle(self, row: dict, index: int, count: int) -> Any:
        """Asks with all fields, then without those that the server refuses, and keeps to what it has taken."""
        from openai import APIStatusError

        everything = set(self._optional(row, index)) - self._unwanted()
        fields, first_error = everything, None
        while True:
            try:
                completion = self._request(row, index, count, fields)
                break
            except APIStatusError as error:
                first_error = first_error or error
                if error.status_code not in REFUSALS or TOO_LONG.search(str(error)):
                    raise
                named = {name for name in fields if re.search(rf"\b{name}\b", str(error))}
                refused = named or fields.intersection(NOT_OPENAIS) or fields
                if not refused:  # it is the question that is refused
                    raise first_error from None
                fields = fields - refused
        if left_out := sorted(everything - fields):
            _say(
                f"The server {self.args.base_url} refuses {' or '.join(left_out)}: it is asked without, and its own defaults of "
                "these are in effect."
            )
        self._fields = fields
        return completion

    def _request(self, row: dict, index: int, count: int, fields: set[str]) -> Any:
        args = self.args
        ours = {name: value for name, value in self._optional(row, index).items() if name in fields}
        return self.client.chat.completions.create(
            model=args.model_name_or_path,
            messages=[{"role": "user", "content": row["prompt"]}],
            n=count,
            temperature=args.temperature,
            max_tokens=args.max_new_tokens,
            extra_body=ours | args.engine_args,
            **({"top_p": args.top_p} if args.top_p < 1 else {}),
        )

    def _optional(self, row: dict, index: int) -> dict:
        """The fields that a server may refuse; those that `engine_args` names are the user's."""
        fields = {"seed": seed_of(self.args, row, index), **NEUTRAL} | ({"top_p": 1.0} if self.args.top_p == 1 else {})
        return {name: value for name, value in fields.items() if name not in self.args.engine_args}

    def _unwanted(self) -> set[str]:
        """LLaMA-Factory's own server takes the field of OpenAI's presence penalty, 0 where there is none, for a factor."""
        from openai import APIError

        try:
            is_hosts = any(
                model.owned_by == "owner" for model in self.client.with_options(max_retries=0).models.list()
            )
        except (APIError, ValueError, AttributeError, TypeError):  # no such list, or something else instead
            return set()
        if is_hosts:
            _say(
                f"The server {self.args.base_url} is LLaMA-Factory's, which takes top_k and repetition_penalty from its own "
                "start alone: start it with `--top_k 0 --repetition_penalty 1.0`."
            )
        return {"presence_penalty"} if is_hosts else set()


def _sample_of(choice: Any, is_full: bool) -> Sample:
    return Sample(_text_of(choice.message and choice.message.content), finish_of(choice.finish_reason, is_full))


def finish_of(said: Any, is_full: bool) -> str:
    """What a server says of an answer's end, as `Sample.finish`.

    Servers have many words for an answer that is whole (stop, eos_token, end_turn ...), and some have none. Where the word is
    not known, the tokens that were used decide.

    Args:
        is_full: whether all answers of the request took as many tokens as they may.
    """
    word = str(said.get("type", "") if isinstance(said, dict) else said or "")
    if CUT_OFF_WORDS.search(word):
        return "length"
    if NOT_WHOLE_WORDS.search(word):
        return word
    return "length" if is_full and not WHOLE_WORDS.search(word) else "stop"


def _text_of(content: Any) -> str:
    """The text of an answer that came as text, as a list of parts (thoughts have parts of their own), or not at all."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _connect(args: SamplingArguments) -> Any:
    """A client; one cheap request tells whether there is a server."""
    import openai
    from openai.types.chat import ChatCompletion

    # pydantic builds these classes at their first use, and not safely in several threads. Log-probs come where
    # `engine_args` asks for them.
    token = {"token": "", "logprob": 0.0, "top_logprobs": []}
    choice = {"message": {"role": "assistant", "content": ""}, "logprobs": {"content": [token]}}
    ChatCompletion.construct(choices=[choice], usage={})
    client = openai.OpenAI(
        base_url=args.base_url,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        timeout=args.timeout,
        max_retries=args.max_retries,
    )
    try:
        client.with_options(timeout=min(PATIENCE, args.timeout), max_retries=0).models.with_raw_response.list()
    except openai.APIConnectionError as error:
        raise SolopoError(
            f"no server answers at {args.base_url} ({reason(error)}): start it, or correct base_url."
        ) from None
    except openai.AuthenticationError:
        raise SolopoError(
            f"the server {args.base_url} refuses the key: put the right one in the environment variable OPENAI_API_KEY."
        ) from None
    except openai.APIStatusError:
        pass  # it answers, though it has no such list
    _say(
        f"The server {args.base_url} renders prompts itself: its chat template must be the one of training "
        f"({args.template})."
    )
    return client


def _say(text: str) -> None:
    """One line that a progress bar does not overwrite."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
