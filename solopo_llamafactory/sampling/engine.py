"""Sampling with LLaMA-Factory's own inference engines in this process: huggingface, vllm or sglang."""

import asyncio
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from ..common.errors import SolopoError
from .arguments import SamplingArguments
from .base import Sample, SampleError, reason, seed_of
from .texts import samples_of


class EngineSampler:
    """Asks a model in this process; the host renders its prompts as training does.

    A model that our own generation can run (see `streaming`) is asked by `stream`, another one by the host's huggingface
    engine. There a group of samples to a batch of questions has a seed of its own, so samples do not depend on what was
    sampled before them.
    """

    def __init__(self, args: SamplingArguments) -> None:
        backend = args.infer_backend
        if backend != "huggingface" and importlib.util.find_spec(backend) is None:
            raise SolopoError(
                f"infer_backend is {backend} and {backend} is not installed: run `pip install {backend}`, or write "
                "huggingface, or openai with a server's base_url."
            )
        self.args = args
        self.workers = 1 if backend == "huggingface" else args.concurrency
        self._lock = Lock()
        self._chat_model: Any = None

    def __call__(self, row: dict) -> list[Sample]:
        """Returns `n` samples.

        Raises:
            SampleError: for a prompt that the engine refuses.
            SolopoError: when the model cannot be loaded or the GPU is too small.
        """
        (samples,) = self.together([row])
        if isinstance(samples, SampleError):
            raise samples
        return samples

    def together(self, rows: Sequence[dict]) -> list[list[Sample] | SampleError]:
        """The samples of several questions asked at once (huggingface); a question that is refused fails alone."""
        from torch import OutOfMemoryError

        try:
            return self._sample(rows)
        except SampleError as error:
            return [error]
        except ValueError as error:
            if len(rows) > 1:
                return [self.together([row])[0] for row in rows]
            return [SampleError(f"question {rows[0]['id']} is refused by the engine ({reason(error)})")]
        except OutOfMemoryError:
            sizes = [key for key in ("batch_size", "samples_per_call") if (getattr(self.args, key) or 1) > 1]
            given = " and ".join(f"{key} {getattr(self.args, key)}" for key in sizes)
            raise SolopoError(
                f"the GPU's memory is too small for {given} with this model: write smaller ones (1 at least)."
                if sizes
                else "the GPU's memory is too small for one prompt at a time with this model: leave out the longest "
                "contexts, or ask a server (infer_backend: openai)."
            ) from None

    def stream(
        self, rows: Sequence[dict], unasked: dict[str, dict]
    ) -> Iterator[tuple[dict, list[Sample] | SampleError]] | None:
        """The samples of the unasked rows, in order; None, with one line that says why, where the host's engine must.

        Raises:
            SolopoError: when the model cannot be loaded.
        """
        if self.args.infer_backend != "huggingface":
            return None
        from ..generation.errors import UnfitError
        from .streaming import Stream

        try:
            stream = Stream(self.args, self.chat_model.engine, rows)
        except UnfitError as error:
            print(f"Answers come from transformers' generate, slower, because: {error}.", file=sys.stderr)
            return None
        return stream(unasked)

    @property
    def window(self) -> int | None:
        """Tokens that the loaded model takes, prompt and answer together."""
        from ..host.chat import window_of

        return window_of(self.chat_model)

    def close(self) -> None:
        """Gives the model's memory back; the next question would load it again."""
        if self._chat_model is not None:
            from ..host.chat import unload

            unload(self._chat_model)
            self._chat_model = None

    @property
    def chat_model(self) -> Any:
        """The host's `ChatModel`, loaded once."""
        with self._lock:
            if self._chat_model is None:
                self._chat_model = _load(self.args)
            return self._chat_model

    def _sample(self, rows: Sequence[dict]) -> list[list[Sample]]:
        generating = self.chat_model.engine.generating_args  # ours and engine_args together
        if not (generating["do_sample"] and generating["temperature"]):
            return [each * self.args.n for each in self._ask(rows, 0, 1)]  # several at a time would be sampled
        # sglang's engine refuses to give several at a time.
        at_a_time = 1 if self.args.infer_backend == "sglang" else self.args.samples_per_call
        samples: list[list[Sample]] = [[] for _ in rows]
        while (missing := self.args.n - len(samples[0])) > 0:
            for known, new in zip(samples, self._ask(rows, len(samples[0]), min(at_a_time, missing))):
                known += new[:missing]
        return samples

    def _ask(self, rows: Sequence[dict], index: int, count: int) -> list[list[Sample]]:
        if self.args.infer_backend == "huggingface":
            return self._generate(rows, count, seed_of(self.args, rows[0], index))
        (row,) = rows
        messages = [{"role": "user", "content": row["prompt"]}]
        if self.args.infer_backend == "sglang":  # its engine blocks the loop it runs in, so each request gets its own
            responses = asyncio.run(self.chat_model.achat(messages))
        else:
            responses = self.chat_model.chat(messages, num_return_sequences=count)
        if not responses:
            raise SampleError(f"question {row['id']} got no answer from the engine")
        return [[Sample(response.response_text, self._finish(response)) for response in responses]]

    def _generate(self, rows: Sequence[dict], count: int, seed: int) -> list[list[Sample]]:
        """`count` samples of each prompt by the huggingface engine.

        The engine takes the tokenizer's end token alone for an answer's end. Templates have further ones: GLM's end every
        answer with one of those.
        """
        import torch

        from ..host.chat import batch_inputs

        engine = self.chat_model.engine
        inputs = batch_inputs(engine, [row["prompt"] for row in rows], count)
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = engine.model.generate(**inputs)[:, inputs["inputs"].shape[1] :].tolist()
        samples = samples_of(engine, inputs["generation_config"], tokens)
        return [samples[i : i + count] for i in range(0, len(samples), count)]

    def _finish(self, response: Any) -> str:
        if self.args.infer_backend == "vllm":
            return "stop" if response.finish_reason == "stop" else "length"
        # The host compares sglang's reason, which is an object, with a text, and so calls every answer cut off.
        engine = self.chat_model.engine
        room = engine.model_args.sglang_maxlen - response.prompt_length - 2
        return "stop" if response.response_length < min(room, engine.generating_args["max_new_tokens"]) else "length"


def _load(args: SamplingArguments) -> Any:
    from ..host.chat import drop_generation_defaults, load_chat_model

    arguments = {
        "model_name_or_path": args.model_name_or_path,
        "template": args.template,
        "infer_backend": args.infer_backend,
        "do_sample": args.temperature > 0,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "top_k": 0,  # the host's default of 50 would cut the distribution beside top_p
        "max_new_tokens": args.max_new_tokens,
    }
    if args.adapter_name_or_path is not None:
        arguments["adapter_name_or_path"] = args.adapter_name_or_path
    try:
        chat_model = load_chat_model({**arguments, **args.engine_args})
    except Exception as error:  # the host, transformers and the engines raise many kinds
        raise SolopoError(
            f"model '{args.model_name_or_path}' cannot be loaded by LLaMA-Factory's {args.infer_backend} engine "
            f"({reason(error)}): correct model_name_or_path, adapter_name_or_path, template or engine_args."
        ) from None
    drop_generation_defaults(chat_model)
    return chat_model
