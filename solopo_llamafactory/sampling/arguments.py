"""The arguments of asking one model, for `solopo build` and for `solopo eval`."""

from dataclasses import dataclass, field
from typing import Literal

from ..common.config import check_types
from ..common.errors import SolopoError


@dataclass
class RequestArguments:
    """Arguments pertaining to requests, the same for all models that are asked."""

    max_new_tokens: int = field(
        default=512,
        metadata={"help": "Most tokens of an answer. An answer that is cut off there enters no training pair."},
    )
    batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Most questions that a model in this process (huggingface) answers at a time; by default as many as fit "
            "the memory. Where transformers' own generate must do it, one by default, and more are padded to the longest."
        },
    )
    concurrency: int = field(
        default=16,
        metadata={"help": "Requests under way at a time (servers, vllm and sglang)."},
    )
    max_retries: int = field(
        default=5,
        metadata={"help": "Repetitions of a request that failed, with growing pauses."},
    )
    timeout: float = field(
        default=600.0,
        metadata={"help": "Seconds to wait for a server's answer."},
    )
    seed: int = field(
        default=42,
        metadata={"help": "Seed of every random choice. The same seed gives the same bytes."},
    )
    thought_words: list[str] | None = field(
        default=None,
        metadata={
            "help": "Opening and closing mark of thoughts, such as [<reason>, </reason>], beside those that LLaMA-Factory's "
            "templates know. What stands up to the last closing mark is no part of an answer when it is judged."
        },
    )


@dataclass
class SamplingArguments(RequestArguments):
    """Arguments pertaining to what writes answers and how it is asked."""

    template: str | None = field(
        default=None,
        metadata={"help": "LLaMA-Factory's name of the chat template used in training (required)."},
    )
    infer_backend: Literal["huggingface", "vllm", "sglang", "openai"] = field(
        default="huggingface",
        metadata={
            "help": "What writes answers: one of LLaMA-Factory's engines in this process, or `openai` for a server with "
            "that interface."
        },
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "The model that samples, or its name on the server. Defaults to `tokenizer`."},
    )
    adapter_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Adapter of the model that samples, for an engine in this process."},
    )
    engine_args: dict = field(
        default_factory=dict,
        metadata={
            "help": "Further inference arguments of LLaMA-Factory's, such as {vllm_maxlen: 8192}; for a server, "
            "further fields of each request."
        },
    )
    base_url: str | None = field(
        default=None,
        metadata={
            "help": "Address of the server, such as http://127.0.0.1:8000/v1. Its key, where it wants one, is read from "
            "the environment variable OPENAI_API_KEY."
        },
    )
    n: int = field(
        default=32,
        metadata={"help": "Answers sampled for a question, on its short context."},
    )
    temperature: float = field(
        default=0.85,
        metadata={"help": "Sampling temperature. 0 decodes greedily; all answers to a question are then the same."},
    )
    top_p: float = field(
        default=1.0,
        metadata={"help": "Nucleus sampling probability."},
    )
    samples_per_call: int = field(
        default=8,
        metadata={
            "help": "Answers to a question asked for at a time: by servers, vllm, and transformers' own generate, where each "
            "such group has a seed of its own."
        },
    )

    def __post_init__(self) -> None:
        check_types(self)
        self.check_sampling()

    def check_sampling(self) -> None:
        """Refuses sizes out of range, and a server without an address."""
        for key in ("n", "max_new_tokens", "samples_per_call", "batch_size", "concurrency"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise SolopoError(f"{key} is {getattr(self, key)}: write 1 or more.")
        for key in ("max_retries", "temperature"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise SolopoError(f"{key} is {getattr(self, key)}: write 0 or more.")
        if not 0 < self.top_p <= 1:
            raise SolopoError(f"top_p is {self.top_p}: write a number above 0 and up to 1.")
        if len(self.thought_words or ()) % 2:
            raise SolopoError(
                f"thought_words is {self.thought_words}: write an opening and a closing mark, such as [<reason>, </reason>]."
            )
        if not 0 < self.timeout < float("inf"):
            raise SolopoError(f"timeout is {self.timeout}: write seconds above 0, such as 600.")
        if (self.infer_backend == "openai") != (self.base_url is not None):
            raise SolopoError(
                f"infer_backend is {self.infer_backend} and base_url is {self.base_url}: write both `infer_backend: "
                "openai` and the server's `base_url`, or neither."
            )
