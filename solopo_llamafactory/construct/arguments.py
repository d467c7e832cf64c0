"""The arguments of all construction steps: one YAML file serves `solopo build` and each step alone."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .errors import ConstructError
from .parsing import checked


DEMO_CORPUS = "data/demo_corpus.jsonl"


@dataclass
class BuildArguments:
    """Arguments pertaining to how documents and questions become preference pairs."""

    # Source
    source: Literal["musique", "hotpotqa", "2wikimultihopqa", "generic", "demo"] = field(
        default="musique",
        metadata={"help": "What the input is: a data set in its official schema, the generic schema, or the demo."},
    )
    input: str | None = field(
        default=None,
        metadata={
            "help": "The questions: a JSON or JSONL file, or the train split of a data set, by its folder or its id on the "
            f"Hugging Face Hub (NAME or NAME:CONFIG). Defaults to {DEMO_CORPUS} for the source demo."
        },
    )
    corpus: str | None = field(
        default=None,
        metadata={"help": "JSONL file of further documents to draw distractors from, `title` and `text` each."},
    )
    # Output
    output: str | None = field(
        default=None,
        metadata={
            "help": "JSONL file of the training pairs (required). Steps keep their files in a folder beside it."
        },
    )
    # Rendering
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "Folder or hub id of the target model's tokenizer (required)."},
    )
    template: str | None = field(
        default=None,
        metadata={"help": "LLaMA-Factory's name of the chat template used in training (required)."},
    )
    # Synthesis
    short_tokens: int = field(
        default=1100,
        metadata={"help": "Most tokens of the rendered short prompt. 0 keeps the evidence alone."},
    )
    long_tokens: int | list[int] = field(
        default=7500,
        metadata={"help": "Most tokens of the rendered long prompt; a list mixes these sizes in equal parts."},
    )
    num_contexts: int | None = field(
        default=None,
        metadata={
            "help": "Questions to make contexts for, at most. Defaults to twice num_examples + num_held_out: sampling "
            "drops questions that a model always or never answers right."
        },
    )
    allow_answer_in_distractors: bool = field(
        default=False,
        metadata={"help": "Keep distractors that contain an answer or alias as whole words."},
    )
    verify: bool = field(
        default=True,
        metadata={"help": "Count each finished prompt's tokens once more. Without it budgets rest on sums of parts."},
    )
    preprocessing_num_workers: int | None = field(
        default=None,
        metadata={"help": "Processes that synthesize. Defaults to the number of cores, at most 16."},
    )
    # Sampling
    infer_backend: Literal["huggingface", "vllm", "sglang", "openai", "templated"] = field(
        default="huggingface",
        metadata={
            "help": "What writes answers: one of LLaMA-Factory's engines in this process, `openai` for a server with "
            "that interface, or `templated` for made-up answers without a model (MuSiQue's schema only)."
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
    max_new_tokens: int = field(
        default=512,
        metadata={"help": "Most tokens of an answer. Answers that are cut off there enter no pair."},
    )
    samples_per_call: int = field(
        default=8,
        metadata={"help": "Answers asked for at a time. In this process each such group has a seed of its own."},
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
    # Selection
    policy: Literal["random", "shortest", "likeliest"] = field(
        default="random",
        metadata={"help": "Which of the right answers is chosen, and which of the wrong ones rejected."},
    )
    num_examples: int = field(
        default=5000,
        metadata={"help": "Training pairs to write at most."},
    )
    num_held_out: int = field(
        default=0,
        metadata={"help": "Further pairs for evaluation, written to OUTPUT_heldout.jsonl."},
    )
    # Registration
    dataset_info: str = field(
        default="dataset_info.json",
        metadata={"help": "LLaMA-Factory's list of data sets, which the pairs are entered in."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Name of the entry. Defaults to the output's file name."},
    )
    seed: int = field(
        default=42,
        metadata={"help": "Seed of every random choice. The same seed gives the same bytes."},
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            setattr(self, item.name, checked(item, getattr(self, item.name)))
        if self.input is None and self.source == "demo":
            self.input = DEMO_CORPUS
        for key in ("input", "output", "tokenizer", "template"):
            if getattr(self, key) is None:
                raise ConstructError(f"`{key}` is missing: add `{key}: ...` to the YAML or {key}=... to the command.")
        self._check_sizes()
        self._check_files()
        self._check_sampling()
        self.model_name_or_path = self.model_name_or_path or self.tokenizer
        self.dataset_name = self.dataset_name or Path(self.output).stem

    def _check_sizes(self) -> None:
        if self.short_tokens < 0:
            raise ConstructError(f"short_tokens is {self.short_tokens}: write 0 (the evidence alone) or more.")
        if min(self.long_budgets) <= self.short_tokens:
            raise ConstructError(
                f"long_tokens is {self.long_tokens}: write a number above short_tokens ({self.short_tokens})."
            )
        for key in ("n", "max_new_tokens", "samples_per_call", "concurrency", "num_examples"):
            if getattr(self, key) < 1:
                raise ConstructError(f"{key} is {getattr(self, key)}: write 1 or more.")
        for key in ("num_contexts", "preprocessing_num_workers"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ConstructError(f"{key} is {getattr(self, key)}: write 1 or more, or leave it out.")
        for key in ("num_held_out", "max_retries", "temperature"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise ConstructError(f"{key} is {getattr(self, key)}: write 0 or more.")
        if not 0 < self.top_p <= 1:
            raise ConstructError(f"top_p is {self.top_p}: write a number above 0 and up to 1.")
        if self.timeout <= 0:
            raise ConstructError(f"timeout is {self.timeout}: write seconds above 0.")

    def _check_files(self) -> None:
        if not self.output.endswith(".jsonl"):
            raise ConstructError(f"output is '{self.output}': write a file name that ends in .jsonl.")
        if os.path.isdir(self.output):
            raise ConstructError(f"output '{self.output}' is a folder: write the name of a file to make.")
        if self.source == "demo" and not os.path.isfile(self.input):
            raise ConstructError(f"input '{self.input}' is not a file: run from the repository root or give its path.")
        if self.corpus is not None and not os.path.isfile(self.corpus):
            raise ConstructError(f"corpus '{self.corpus}' is not a file: give its path.")
        if os.path.isdir(self.dataset_info):
            raise ConstructError(f"dataset_info '{self.dataset_info}' is a folder: write the name of its JSON file.")
        for key in ("input", "corpus"):
            path = getattr(self, key)
            for written in (self.output, self.held_out_path):
                if path and os.path.exists(path) and os.path.exists(written) and os.path.samefile(path, written):
                    raise ConstructError(f"{key} and output are the same file '{path}': write another output.")

    def _check_sampling(self) -> None:
        if (self.infer_backend == "openai") != (self.base_url is not None):
            raise ConstructError(
                f"infer_backend is {self.infer_backend} and base_url is {self.base_url}: write both `infer_backend: "
                "openai` and the server's `base_url`, or neither."
            )
        if self.infer_backend == "templated" and self.source not in ("musique", "demo"):
            raise ConstructError(
                f"infer_backend is templated and source is {self.source}: templated answers need MuSiQue's decomposition "
                "of questions, so name a model or a server."
            )

    @property
    def long_budgets(self) -> list[int]:
        """The sizes of long prompts, one or several."""
        return self.long_tokens if isinstance(self.long_tokens, list) else [self.long_tokens]

    @property
    def contexts_wanted(self) -> int:
        """How many questions get contexts at most."""
        return self.num_contexts or 2 * (self.num_examples + self.num_held_out)

    @property
    def folder(self) -> Path:
        """Where the steps keep their files."""
        return Path(self.output).with_suffix(".build")

    @property
    def contexts_path(self) -> Path:
        return self.folder / "contexts.jsonl"

    @property
    def synthesis_path(self) -> Path:
        return self.folder / "synthesis.json"

    @property
    def samples_path(self) -> Path:
        return self.folder / "samples.jsonl"

    @property
    def selection_path(self) -> Path:
        return self.folder / "selection.json"

    @property
    def held_out_path(self) -> Path:
        return Path(self.output).with_name(f"{Path(self.output).stem}_heldout.jsonl")

    @property
    def report_path(self) -> Path:
        return self.folder / "report.html"

    @property
    def summary_path(self) -> Path:
        return self.folder / "summary.json"
