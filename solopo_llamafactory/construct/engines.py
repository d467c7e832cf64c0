"""Sampling with LLaMA-Factory's own inference engines in this process: huggingface, vllm or sglang."""

import asyncio
import importlib.util
from threading import Lock
from typing import Any

from .arguments import BuildArguments
from .errors import ConstructError
from .sampling import Sample, SampleError, reason, seed_of


class EngineSampler:
    """Asks a model in this process; the host renders its prompts as training does.

    With the huggingface engine a group of samples has a seed of its own, so a question's samples do not depend on what
    was sampled before it.
    """

    def __init__(self, args: BuildArguments) -> None:
        backend = args.infer_backend
        if backend != "huggingface" and importlib.util.find_spec(backend) is None:
            raise ConstructError(
                f"infer_backend is {backend} and {backend} is not installed: run `pip install {backend}`, or write "
                "huggingface, or openai with a server's base_url."
            )
        if args.policy == "likeliest":
            raise ConstructError(
                f"policy is likeliest and the {backend} engine gives no log-probs: write random or shortest, or sample "
                "through a server (infer_backend: openai)."
            )
        self.args = args
        self.workers = 1 if backend == "huggingface" else args.concurrency
        self._lock = Lock()
        self._chat_model: Any = None

    def __call__(self, row: dict) -> list[Sample]:
        """Returns `n` samples.

        Raises:
            SampleError: for a prompt that the engine refuses.
            ConstructError: when the model cannot be loaded or the GPU is too small.
        """
        from torch import OutOfMemoryError

        try:
            return self._sample(row)
        except ValueError as error:
            raise SampleError(f"question {row['id']} is refused by the engine ({reason(error)})") from None
        except OutOfMemoryError:
            raise ConstructError(
                f"the GPU's memory is too small for samples_per_call {self.args.samples_per_call} with this model: write "
                "a smaller one (1 at least)."
            ) from None

    @property
    def chat_model(self) -> Any:
        """The host's `ChatModel`, loaded once."""
        with self._lock:
            if self._chat_model is None:
                self._chat_model = _load(self.args)
                if self.args.infer_backend == "huggingface":
                    self._generation = Generation(self._chat_model.engine)
            return self._chat_model

    def _sample(self, row: dict) -> list[Sample]:
        generating = self.chat_model.engine.generating_args  # ours and engine_args together
        if not (generating["do_sample"] and generating["temperature"]):
            return self._ask(row, 0, 1) * self.args.n  # several at a time would be sampled
        # sglang's engine refuses to give several at a time.
        at_a_time = 1 if self.args.infer_backend == "sglang" else self.args.samples_per_call
        samples: list[Sample] = []
        while (missing := self.args.n - len(samples)) > 0:
            samples += self._ask(row, len(samples), min(at_a_time, missing))[:missing]
        return samples

    def _ask(self, row: dict, index: int, count: int) -> list[Sample]:
        messages = [{"role": "user", "content": row["short_prompt"]}]
        if self.args.infer_backend == "huggingface":
            return self._generation.samples(self.chat_model, messages, count, seed_of(self.args, row, index))
        if self.args.infer_backend == "sglang":  # its engine blocks the loop it runs in, so each request gets its own
            responses = asyncio.run(self.chat_model.achat(messages))
        else:
            responses = self.chat_model.chat(messages, num_return_sequences=count)
        if not responses:
            raise SampleError(f"question {row['id']} got no answer from the engine")
        return [Sample(response.response_text, self._finish(response)) for response in responses]

    def _finish(self, response: Any) -> str:
        if self.args.infer_backend == "vllm":
            return "stop" if response.finish_reason == "stop" else "length"
        # The host compares sglang's reason, which is an object, with a text, and so calls every answer cut off.
        engine = self.chat_model.engine
        room = engine.model_args.sglang_maxlen - response.prompt_length - 2
        return "stop" if response.response_length < min(room, engine.generating_args["max_new_tokens"]) else "length"


class Generation:
    """Generation of a huggingface engine, with a seed, a look at the tokens, and an end when the user wants it.

    The engine takes the tokenizer's end token alone for an answer's end. Templates have further ones: GLM's end every
    answer with one of those.
    """

    def __init__(self, engine: Any) -> None:
        self._generate = engine.model.generate
        self._ends = engine.template.get_stop_token_ids(engine.tokenizer)
        self._stopped = False
        self._tokens: Any = None  # (samples, prompt and answer)
        engine.model.generate = self._watched

    def samples(self, chat_model: Any, messages: list[dict], count: int, seed: int) -> list[Sample]:
        import torch

        torch.manual_seed(seed)
        try:
            responses = chat_model.chat(messages, num_return_sequences=count)
        except KeyboardInterrupt:
            self._stopped = True  # the engine generates in a thread that Python would wait for
            raise
        ends = torch.tensor(self._ends, device=self._tokens.device)
        ended = torch.isin(self._tokens[:, responses[0].prompt_length :], ends).any(dim=1).tolist()
        return [Sample(response.response_text, "stop" if end else "length") for response, end in zip(responses, ended)]

    def _watched(self, **kwargs) -> Any:
        from transformers import StoppingCriteriaList

        self._tokens = self._generate(**kwargs, stopping_criteria=StoppingCriteriaList([self._check]))
        return self._tokens

    def _check(self, tokens: Any, scores: Any, **kwargs) -> Any:
        if self._stopped:
            raise InterruptedError
        return tokens.new_zeros(len(tokens), dtype=bool)


def _load(args: BuildArguments) -> Any:
    from ..host.chat import load_chat_model

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
        return load_chat_model({**arguments, **args.engine_args})
    except Exception as error:  # the host, transformers and the engines raise many kinds
        raise ConstructError(
            f"model '{args.model_name_or_path}' cannot be loaded by LLaMA-Factory's {args.infer_backend} engine "
            f"({reason(error)}): correct model_name_or_path, adapter_name_or_path, template or engine_args."
        ) from None
