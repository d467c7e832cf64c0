"""Where questions and documents come from: arguments that `solopo build` and `solopo eval` share."""

import os
from dataclasses import dataclass, field
from typing import Literal

from ..common.config import require
from ..common.errors import SolopoError
from .wording import DEFAULT_WORDING, Wording, read_wording


@dataclass
class SourceArguments:
    """Arguments pertaining to questions, documents and how their tokens are counted."""

    source: Literal["musique", "hotpotqa", "2wikimultihopqa", "squad", "generic", "two_hop"] = field(
        default="musique",
        metadata={
            "help": "What the input is: a data set in its official schema, the generic schema, or a file that says how many "
            "two-hop questions to make up (for tiny models)."
        },
    )
    input: str | None = field(
        default=None,
        metadata={
            "help": "The questions (required): a JSON or JSONL file, or the train split of a data set, by its folder or its "
            "id on the Hugging Face Hub (NAME or NAME:CONFIG)."
        },
    )
    corpus: str | None = field(
        default=None,
        metadata={"help": "JSONL file of further documents to draw distractors from, `title` and `text` each."},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "Folder or hub id of the target model's tokenizer (required)."},
    )
    allow_answer_in_distractors: bool = field(
        default=False,
        metadata={"help": "Keep distractors that contain an answer or alias as whole words."},
    )
    wording: str | dict | None = field(
        default=None,
        metadata={
            "help": "Wording of the prompts: cot (think step by step, the default), direct (write only the answer), or a "
            "mapping of own texts. `solopo eval` takes that of the pairs under `exclude` by default."
        },
    )
    preprocessing_num_workers: int | None = field(
        default=None,
        metadata={"help": "Processes that synthesize. Defaults to the number of cores, at most 16."},
    )

    @property
    def prompt_wording(self) -> Wording:
        """The texts of `wording`."""
        return read_wording(self.wording or DEFAULT_WORDING)

    def check_source(self) -> None:
        """Refuses what is missing, files that are not there, and a wording that is none."""
        self.prompt_wording
        require(self, "input", "tokenizer")
        if self.corpus is not None and not os.path.isfile(self.corpus):
            raise SolopoError(f"corpus '{self.corpus}' is not a file: give its path.")
        if self.preprocessing_num_workers is not None and self.preprocessing_num_workers < 1:
            raise SolopoError(
                f"preprocessing_num_workers is {self.preprocessing_num_workers}: write 1 or more, or leave it out."
            )
