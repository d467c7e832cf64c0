"""The arguments of `solopo build`: a YAML file, `key=value` overrides, and their checks."""

import dataclasses
import difflib
import os
import textwrap
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin

from .errors import ConstructError


DEMO_CORPUS = "data/demo_corpus.jsonl"


@dataclass
class BuildArguments:
    """Arguments pertaining to how documents and questions become preference pairs."""

    source: Literal["musique", "demo"] = field(
        default="musique",
        metadata={"help": "Where questions come from: MuSiQue's official JSONL, or the project's own demo corpus."},
    )
    input: str | None = field(
        default=None,
        metadata={"help": f"Path to the source's JSONL file. Defaults to {DEMO_CORPUS} for the source demo."},
    )
    output: str | None = field(
        default=None,
        metadata={"help": "Path of the JSONL file to write (required)."},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "Folder or hub id of the target model's tokenizer (required)."},
    )
    template: str | None = field(
        default=None,
        metadata={"help": "LLaMA-Factory's name of the chat template used in training (required)."},
    )
    short_tokens: int = field(
        default=1100,
        metadata={"help": "Most tokens of the rendered short prompt. 0 keeps the gold paragraphs alone."},
    )
    long_tokens: int = field(
        default=7500,
        metadata={"help": "Most tokens of the rendered long prompt."},
    )
    num_examples: int = field(
        default=5000,
        metadata={"help": "How many examples to write at most."},
    )
    responses: Literal["templated"] = field(
        default="templated",
        metadata={"help": "Where answers come from. `templated` writes them from the question's decomposition."},
    )
    seed: int = field(
        default=42,
        metadata={"help": "Seed of every random choice. The same seed gives the same bytes."},
    )

    def __post_init__(self) -> None:
        # YAML checks no types: a value may arrive as text, a float or a list.
        for item in dataclasses.fields(self):
            setattr(self, item.name, _checked(item, getattr(self, item.name)))
        if self.input is None and self.source == "demo":
            self.input = DEMO_CORPUS
        for key in ("input", "output", "tokenizer", "template"):
            if getattr(self, key) is None:
                raise ConstructError(f"`{key}` is missing: add `{key}: ...` to the YAML or {key}=... to the command.")
        if self.short_tokens < 0:
            raise ConstructError(f"short_tokens is {self.short_tokens}: write 0 (gold paragraphs alone) or more.")
        if self.long_tokens <= self.short_tokens:
            raise ConstructError(
                f"long_tokens is {self.long_tokens}: write a number above short_tokens ({self.short_tokens})."
            )
        if self.num_examples < 1:
            raise ConstructError(f"num_examples is {self.num_examples}: write 1 or more.")
        if not self.output.endswith(".jsonl"):
            raise ConstructError(f"output is '{self.output}': write a file name that ends in .jsonl.")
        if os.path.isdir(self.output):
            raise ConstructError(f"output '{self.output}' is a folder: write the name of a file to make.")
        if not os.path.isfile(self.input):
            hint = "run from the repository root or give input=PATH" if self.input == DEMO_CORPUS else "give its path"
            raise ConstructError(f"input '{self.input}' is not a file: {hint}.")
        if os.path.exists(self.output) and os.path.samefile(self.input, self.output):
            raise ConstructError(f"input and output are the same file '{self.input}': write another output.")


def _checked(item: dataclasses.Field, value: object) -> object:
    """Returns the value in the field's type, or refuses it."""
    if get_origin(item.type) is Literal:
        choices = get_args(item.type)
        if value not in choices:
            raise ConstructError(f"{item.name} is {value!r}: write {' or '.join(choices)}.")
        return value
    if item.type is int:
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConstructError(f"{item.name} is {value!r}: write a whole number, such as {item.default}.")
        return value
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ConstructError(f"{item.name} is {value!r}: write a text value.")
    return value


def parse_build_arguments(argv: list[str]) -> BuildArguments:
    """Reads `[CONFIG.yaml] [key=value ...]`; an override beats the file."""
    values: dict = {}
    argv = list(argv)
    if argv and argv[0].endswith((".yaml", ".yml")):
        values = _read_yaml(argv.pop(0))
    values.update(_read_overrides(argv))
    keys = [item.name for item in dataclasses.fields(BuildArguments)]
    for key in values:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"the keys are {', '.join(keys)}."
            raise ConstructError(f"`{key}` is not a key of solopo build: {hint}")
    return BuildArguments(**values)


def _read_yaml(path: str) -> dict:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not os.path.isfile(path):
        raise ConstructError(f"'{path}' is not a file: give the path of a YAML file, such as recipes/data/demo.yaml.")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConstructError(f"'{path}' cannot be read as YAML ({reason}): write one `key: value` a line.") from None
    if not isinstance(values, dict):
        raise ConstructError(f"'{path}' holds no keys: write one `key: value` a line.")
    return values


def _read_overrides(argv: list[str]) -> dict:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for text in argv:
        if "=" not in text or text.startswith(("-", "=")):
            raise ConstructError(f"'{text}' is not understood: write [CONFIG.yaml] first, then key=value overrides.")
    try:
        return OmegaConf.to_container(OmegaConf.from_cli(argv), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConstructError(f"'{' '.join(argv)}' cannot be read ({reason}): write overrides as key=value.") from None


def help_text() -> str:
    """The text of `solopo build --help`, from the fields' own help."""
    lines = ["usage: solopo build [CONFIG.yaml] [key=value ...]", "", "Keys of the YAML file and of overrides:"]
    for item in dataclasses.fields(BuildArguments):
        kind = "|".join(get_args(item.type)) if get_origin(item.type) is Literal else ""
        kind = kind or ("int" if item.type is int else "str")
        default = "" if item.default is None else f", default {item.default}"
        lines.append(f"  {item.name} ({kind}{default})")
        lines += textwrap.wrap(item.metadata["help"], 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
