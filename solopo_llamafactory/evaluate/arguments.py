"""The arguments of `solopo eval`: one task over a grid of lengths and depths, and the models that are compared."""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..common.config import check_types, refuse_unknown, require
from ..common.errors import SolopoError
from ..questions.arguments import SourceArguments
from ..questions.wording import DEFAULT_WORDING
from ..sampling.arguments import RequestArguments, SamplingArguments
from .training_pairs import wording_of_pairs


# Of `engine_args`: what would make answers other than greedy ones of max_new_tokens.
NOT_GREEDY = ("do_sample", "temperature", "top_p", "top_k", "n", "max_new_tokens", "max_tokens", "max_length")


@dataclass
class EvalModel:
    """One model of a run, a mapping under `models`."""

    name: str = field(metadata={"help": "What it is called in results and files (required)."})
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Folder or hub id, or the model's name on the server. Defaults to `tokenizer`."},
    )
    adapter_name_or_path: str | None = field(
        default=None,
        metadata={"help": "LoRA adapter, for an engine in this process. A server is asked for it by its name there."},
    )
    infer_backend: Literal["huggingface", "vllm", "sglang", "openai"] = field(
        default="huggingface",
        metadata={"help": "One of LLaMA-Factory's engines in this process, or `openai` for a server."},
    )
    base_url: str | None = field(
        default=None,
        metadata={"help": "Address of the server, such as http://127.0.0.1:8000/v1. Its key: OPENAI_API_KEY."},
    )
    engine_args: dict = field(
        default_factory=dict,
        metadata={
            "help": "Further inference arguments of LLaMA-Factory's, such as {rope_scaling: yarn}; for a server, further "
            "fields of each request."
        },
    )
    window: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that it takes, prompt and answer together. Defaults to what its configuration or the server "
            "says."
        },
    )
    template: str | None = field(
        default=None,
        metadata={"help": "LLaMA-Factory's name of its chat template. Defaults to the run's."},
    )

    def __post_init__(self) -> None:
        check_types(self)
        if not re.fullmatch(r"\w[\w.+ -]*", self.name):
            raise SolopoError(
                f"the model name '{self.name}' is no file name: write letters, digits and any of . + - _ or spaces."
            )
        if self.window is not None and self.window < 1:
            raise SolopoError(f"window of model '{self.name}' is {self.window}: write tokens, or leave it out.")
        for key in NOT_GREEDY:
            if key in self.engine_args:
                raise SolopoError(
                    f"engine_args of model '{self.name}' has {key}: leave it out, answers are greedy and take up to the "
                    "run's max_new_tokens."
                )
        if self.infer_backend == "openai":
            if self.adapter_name_or_path is not None:
                raise SolopoError(
                    f"model '{self.name}' has adapter_name_or_path and is asked through a server: write the adapter's name "
                    "on the server as model_name_or_path."
                )
        else:
            adapters = (self.adapter_name_or_path or "").split(",")
            for path in filter(None, [self.model_name_or_path, *adapters]):
                if _is_local(path) and not os.path.exists(os.path.expanduser(path)):
                    raise SolopoError(
                        f"'{path}' of model '{self.name}' does not exist: give the folder of a model or adapter, or a hub "
                        "id."
                    )


@dataclass
class EvalArguments(RequestArguments, SourceArguments):
    """Arguments pertaining to a grid of contexts and the models that are asked."""

    output: str | None = field(
        default=None,
        metadata={"help": "Folder of all files of this run (required)."},
    )
    exclude: str | None = field(
        default=None,
        metadata={
            "help": "JSONL file of training pairs from `solopo build`: their questions, and questions that share evidence "
            "with them, are left out."
        },
    )
    template: str | None = field(
        default=None,
        metadata={"help": "LLaMA-Factory's name of the chat template that prompts are counted with (required)."},
    )
    # Grid
    task: Literal["multi_doc", "single_doc"] = field(
        default="multi_doc",
        metadata={
            "help": "multi_doc: the first hop's evidence at a depth, the others at equal distances after it, wrapping "
            "round. single_doc: all evidence side by side at a depth."
        },
    )
    lengths: list[int] = field(
        default_factory=lambda: [1000, 2000, 4000, 8000, 16000, 32000],
        metadata={"help": "Most tokens of the rendered prompts, from short to long."},
    )
    depths: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0],
        metadata={"help": "Places of the evidence: 0 is the first document, 1 the last."},
    )
    num_questions: int = field(
        default=100,
        metadata={"help": "Questions at most; each stands in every cell of the grid."},
    )
    # Models
    models: list[dict] = field(  # as they are written; once checked, each an EvalModel
        default_factory=list,
        metadata={"help": "What is compared (required), see below; the first is the baseline of differences."},
    )
    infer_backend: Literal["huggingface", "vllm", "sglang", "openai"] = field(
        default="huggingface",
        metadata={"help": "What runs a model that names none: one of LLaMA-Factory's engines, or a server."},
    )

    def __post_init__(self) -> None:
        if not self.models:
            raise SolopoError("`models` is missing: list one mapping with a `name` for each model.")
        check_types(self)
        require(self, "output", "template")
        self.check_source()
        self._check_grid()
        self._check_files()
        if self.wording is None:
            self.wording = DEFAULT_WORDING if self.exclude is None else wording_of_pairs(self.exclude)
        self.models = [self._model(values) for values in self.models]
        names = [model.name.casefold() for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise SolopoError(f"two models are called '{name}': give each a name of its own.")
        for model in self.models:
            try:
                self.sampling(model)
            except SolopoError as error:
                raise SolopoError(f"model '{model.name}': {error}") from None

    def _model(self, values: dict) -> EvalModel:
        refuse_unknown(EvalModel, values, "a model")
        if "name" not in values:
            raise SolopoError(f"a model has no `name` ({values}): add `name: ...`.")
        defaults = {
            "infer_backend": self.infer_backend,
            "model_name_or_path": self.tokenizer,
            "template": self.template,
        }
        return EvalModel(**defaults | values)

    def _check_grid(self) -> None:
        if self.num_questions < 1:
            raise SolopoError(f"num_questions is {self.num_questions}: write 1 or more.")
        if self.lengths[0] < 1 or sorted(set(self.lengths)) != self.lengths:
            raise SolopoError(f"lengths is {self.lengths}: write numbers of tokens from short to long, each once.")
        if sorted(set(self.depths)) != self.depths or not 0 <= self.depths[0] <= self.depths[-1] <= 1:
            raise SolopoError(f"depths is {self.depths}: write numbers from 0 to 1 in this order, each once.")
        if len({f"{depth:g}" for depth in self.depths}) < len(self.depths):  # so contexts' ids write them
            raise SolopoError(f"depths is {self.depths}: two are equal to six digits, write only one of them.")

    def _check_files(self) -> None:
        if os.path.isfile(self.output):
            raise SolopoError(f"output '{self.output}' is a file: write the name of a folder.")
        if self.exclude is not None and not os.path.isfile(self.exclude):
            raise SolopoError(f"exclude '{self.exclude}' is not a file: give the pairs that `solopo build` wrote.")

    def sampling(self, model: EvalModel) -> SamplingArguments:
        """How a model is asked: greedily, once."""
        return SamplingArguments(
            template=model.template,
            infer_backend=model.infer_backend,
            model_name_or_path=model.model_name_or_path,
            adapter_name_or_path=model.adapter_name_or_path,
            engine_args=model.engine_args,
            base_url=model.base_url,
            n=1,
            temperature=0.0,
            samples_per_call=1,
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(RequestArguments)},
        )

    @property
    def folder(self) -> Path:
        """Where all files are."""
        return Path(self.output)

    @property
    def contexts_path(self) -> Path:
        return self.folder / "contexts.jsonl"

    @property
    def grid_path(self) -> Path:
        return self.folder / "grid.json"

    def answers_path(self, name: str) -> Path:
        """The file of one model's answers."""
        return self.folder / "answers" / f"{name}.jsonl"

    def record_path(self, name: str) -> Path:
        """The file that has one model's window and the arguments that it was asked with."""
        return self.folder / "answers" / f"{name}.json"


def _is_local(path: str) -> bool:
    """Whether it is meant as a path: hub ids have one slash at most, and what stands before it is no folder here."""
    return path.startswith((".", "~", os.sep)) or path.count("/") > 1 or os.path.isdir(path.partition("/")[0])
