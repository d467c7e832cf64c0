"""Sampling without a model of any use: contexts, a sampler that answers at once, and what is in the file afterwards."""

import json

from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.synthesize import read_short_contexts
from solopo_llamafactory.sampling import loop
from solopo_llamafactory.sampling.base import Sample, SampleError
from solopo_llamafactory.sampling.engine import EngineSampler
from solopo_llamafactory.sampling.loop import Counts
from tests.helpers.questions import CORPUS, write_lines


LENGTHS = (1, 90, 7, 30, 2)


def arguments(tmp_path, **changes) -> BuildArguments:
    values = {"source": "musique", "input": str(CORPUS), "tokenizer": "some/model", "template": "qwen", "n": 2}
    return BuildArguments(**{**values, "output": str(tmp_path / "pairs.jsonl"), **changes})


def context(number: int, **changes) -> dict:
    row = {"id": f"q{number}", "answers": ["Esk"], "short_prompt": f"Where is {number}?", "long_prompt": "long"}
    return {**row, **changes}


def question(number: int, **changes) -> dict:
    """That row as samplers see it."""
    return {"id": f"q{number}", "answers": ["Esk"], "prompt": f"Where is {number}?", **changes}


def sample(args: BuildArguments, sampler, *enough, **options) -> Counts:
    """Sampling as the builder does it."""
    return loop.sample(args, list(read_short_contexts(args)), args.samples_path, sampler, *enough, **options)


def write_contexts(args: BuildArguments, count: int) -> list[dict]:
    args.folder.mkdir(exist_ok=True)
    write_lines(args.contexts_path, *(context(number) for number in range(count)))
    return [question(number) for number in range(count)]


class FakeSampler:
    """Answers at once; ids in `usable` get a right and a wrong answer, those in `failing` none."""

    def __init__(self, usable=(), failing=(), workers: int = 1) -> None:
        self.usable, self.failing, self.workers = set(usable), set(failing), workers
        self.asked: list[str] = []

    def __call__(self, row: dict) -> list[Sample]:
        self.asked.append(row["id"])
        if row["id"] in self.failing:
            raise SampleError(f"{row['id']} is too long")
        return [Sample("Esk", "stop"), Sample("Orm" if row["id"] in self.usable else "Esk", "stop")]


def is_enough(row: dict, samples: list[Sample]) -> bool:
    return len({each.text in row["answers"] for each in samples}) == 2


def finished(args: BuildArguments) -> list[dict]:
    return [json.loads(line) for line in args.samples_path.read_bytes().splitlines()]


def ids(args: BuildArguments) -> list[str]:
    return [row["id"] for row in finished(args)]


def uneven(args: BuildArguments) -> list[dict]:
    """Contexts of quite different lengths, in the arguments' folder."""
    rows = [context(i, short_prompt=f"Where is {'the hall of ' * length}{i}?") for i, length in enumerate(LENGTHS)]
    write_lines(args.contexts_path, *rows)
    return list(read_short_contexts(args))


def run_engine(args: BuildArguments, until: str = "") -> bytes:
    """The file of samples, asked for up to a question."""
    sample(args, EngineSampler(args), lambda row, samples: row["id"] == until, wanted=1)
    return args.samples_path.read_bytes()


def refuse_question_1(monkeypatch, engine) -> None:
    """Let the host's engine refuse the prompt of that question."""
    process = engine._process_args

    def refusing(*args, **kwargs):
        if "is 1?" in args[5][0]["content"]:
            raise ValueError("no such prompt")
        return process(*args, **kwargs)

    monkeypatch.setattr(engine, "_process_args", refusing, raising=False)
