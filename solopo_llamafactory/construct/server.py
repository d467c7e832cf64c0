"""Sampling through a server with OpenAI's interface: vLLM, SGLang, `llamafactory-cli api` or a hosted one."""

import os
import re
import sys
from statistics import fmean
from threading import Lock
from typing import Any

from .errors import ConstructError
from .sampling import Sample, SampleError, TooLongError, hide_key, reason, seed_of
from .sampling_arguments import SamplingArguments


PATIENCE = 20.0  # seconds for the first sign of life
# What vLLM, SGLang, llama.cpp and hosted servers say of a prompt that is too long for the model.
TOO_LONG = re.compile(
    r"context.(length|size|window)|longer than|too long|maximum (sequence|input) length", re.IGNORECASE
)


class ServerSampler:
    """Asks a server; the client repeats requests that fail (no connection, no answer in time, status 408, 409, 429, 5xx)."""

    def __init__(self, args: SamplingArguments) -> None:
        try:
            import openai  # noqa: F401
        except ImportError:
            raise ConstructError(
                'infer_backend is openai and its client is not installed: run `pip install "solopo-llamafactory[sample]"`.'
            ) from None
        self.args = args
        self.workers = args.concurrency
        self._lock = Lock()
        self._client: Any = None

    def __call__(self, row: dict) -> list[Sample]:
        """Returns `n` samples.

        Raises:
            SampleError: when the server refuses this question, or has not answered it after all repetitions.
            ConstructError: when there is no such server, or when it cannot do what the arguments ask for.
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
        from openai import APIError, BadRequestError

        args = self.args
        try:
            completion = self.client.chat.completions.create(
                model=args.model_name_or_path,
                messages=[{"role": "user", "content": row["prompt"]}],
                n=count,
                temperature=args.temperature,
                top_p=args.top_p,
                max_tokens=args.max_new_tokens,
                seed=seed_of(args, row, index),
                extra_body=args.engine_args or None,
                **({"logprobs": True} if args.policy == "likeliest" else {}),
            )
        except BadRequestError as error:
            kind = TooLongError if TOO_LONG.search(str(error)) else SampleError
            raise kind(f"question {row['id']}: {reason(error)}") from None
        except APIError as error:
            raise SampleError(f"question {row['id']}: {reason(error)}") from None
        choices = getattr(completion, "choices", None)  # whatever came with status 200
        if not choices:
            raise SampleError(f"question {row['id']}: no answers in '{hide_key(str(completion))[:200]}'")
        return [self._to_sample(choice) for choice in choices]

    def _to_sample(self, choice: Any) -> Sample:
        text = (choice.message and choice.message.content) or ""
        logp = None
        if self.args.policy == "likeliest" and text:
            tokens = choice.logprobs and choice.logprobs.content
            if not tokens:
                raise ConstructError(
                    f"policy is likeliest and the server {self.args.base_url} sends no log-probs: write random or "
                    "shortest."
                )
            logp = fmean(token.logprob for token in tokens)
        # Filtered answers and calls of tools are no whole answers either.
        return Sample(text, "stop" if choice.finish_reason == "stop" else "length", logp)


def _connect(args: SamplingArguments) -> Any:
    """A client; one cheap request tells whether there is a server."""
    import openai
    from tqdm import tqdm

    client = openai.OpenAI(
        base_url=args.base_url,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        timeout=args.timeout,
        max_retries=args.max_retries,
    )
    try:
        client.with_options(timeout=min(PATIENCE, args.timeout), max_retries=0).models.with_raw_response.list()
    except openai.APIConnectionError as error:
        raise ConstructError(
            f"no server answers at {args.base_url} ({reason(error)}): start it, or correct base_url."
        ) from None
    except openai.AuthenticationError:
        raise ConstructError(
            f"the server {args.base_url} refuses the key: put the right one in the environment variable OPENAI_API_KEY."
        ) from None
    except openai.APIStatusError:
        pass  # it answers, though it has no such list
    tqdm.write(
        f"The server {args.base_url} renders prompts itself: its chat template must be the one of training "
        f"({args.template}).",
        file=sys.stderr,
    )
    return client
