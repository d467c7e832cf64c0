"""The arguments of all construction steps: one YAML file serves `solopo build` and each step alone."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..common.config import check_types, require
from ..common.errors import SolopoError
from ..questions.arguments import SourceArguments
from ..questions.wording import DEFAULT_WORDING
from ..sampling.arguments import SamplingArguments


PATTERN = re.compile(r"[*?\[\]]|::")


@dataclass
class BuildArguments(SamplingArguments, SourceArguments):
    """Arguments pertaining to how documents and questions become preference pairs."""

    # Output
    output: str | None = field(
        default=None,
        metadata={
            "help": "JSONL file of the training pairs (required). Steps keep their files in a folder beside it."
        },
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
    verify: bool = field(
        default=True,
        metadata={"help": "Count each finished prompt's tokens once more. Without it budgets rest on sums of parts."},
    )
    # Selection
    policy: Literal["random", "shortest"] = field(
        default="random",
        metadata={"help": "Which of the right answers is chosen, and which of the wrong ones rejected."},
    )
    num_examples: int = field(
        default=5000,
        metadata={"help": "Training pairs to write at most."},
    )
    remove_thoughts: bool = field(
        default=False,
        metadata={
            "help": "Leave thoughts out of chosen and rejected answers, instead of keeping them as sampled. They are never "
            "judged."
        },
    )
    pairs_per_question: int = field(
        default=1,
        metadata={
            "help": "Training pairs of a question at most, each with a right or a wrong answer of its own. A held-out question "
            "gives one."
        },
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
        metadata={
            "help": "Name of the entry. Defaults to the output's file name, with _ for what LLaMA-Factory takes in no name."
        },
    )

    def __post_init__(self) -> None:
        check_types(self)
        require(self, "output", "template")
        self.check_source()
        self.wording = self.wording or DEFAULT_WORDING
        self._check_sizes()
        self._check_files()
        self.check_sampling()
        self.model_name_or_path = self.model_name_or_path or self.tokenizer
        if self.dataset_name is None:
            self.dataset_name = re.sub(r"[^\w.-]+", "_", Path(self.output).stem)
        if not re.fullmatch(r"[\w.-]+", self.dataset_name):
            raise SolopoError(
                f"dataset_name is '{self.dataset_name}': write letters, digits and any of . - _ alone, since LLaMA-Factory takes "
                "a comma for the start of another name."
            )

    def _check_sizes(self) -> None:
        if self.short_tokens < 0:
            raise SolopoError(f"short_tokens is {self.short_tokens}: write 0 (the evidence alone) or more.")
        if min(self.long_budgets) <= self.short_tokens:
            raise SolopoError(
                f"long_tokens is {self.long_tokens}: write a number above short_tokens ({self.short_tokens})."
            )
        if self.num_contexts is not None and self.num_contexts < 1:
            raise SolopoError(f"num_contexts is {self.num_contexts}: write 1 or more, or leave it out.")
        if self.num_examples < 1:
            raise SolopoError(f"num_examples is {self.num_examples}: write 1 or more.")
        if self.pairs_per_question < 1:
            raise SolopoError(f"pairs_per_question is {self.pairs_per_question}: write 1 or more.")
        if self.num_held_out < 0:
            raise SolopoError(f"num_held_out is {self.num_held_out}: write 0 or more.")

    def _check_files(self) -> None:
        if not self.output.endswith(".jsonl"):
            raise SolopoError(f"output is '{self.output}': write a file name that ends in .jsonl.")
        if PATTERN.search(self.output):
            raise SolopoError(
                f"output is '{self.output}': write a name without any of * ? [ ] and ::, which LLaMA-Factory's data library takes "
                "for a pattern of several files."
            )
        if os.path.isdir(self.output):
            raise SolopoError(f"output '{self.output}' is a folder: write the name of a file to make.")
        if os.path.isdir(self.dataset_info):
            raise SolopoError(f"dataset_info '{self.dataset_info}' is a folder: write the name of its JSON file.")
        for key in ("input", "corpus"):
            path = getattr(self, key)
            for written in (self.output, self.held_out_path):
                if path and os.path.exists(path) and os.path.exists(written) and os.path.samefile(path, written):
                    raise SolopoError(f"{key} and output are the same file '{path}': write another output.")

    @property
    def long_budgets(self) -> list[int]:
        """The sizes of long prompts, one or several."""
        return self.long_tokens if isinstance(self.long_tokens, list) else [self.long_tokens]

    @property
    def pairs_wanted(self) -> int:
        """How many pairs leave enough for training, whichever questions are held out."""
        return self.num_examples + self.pairs_per_question * self.num_held_out

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
