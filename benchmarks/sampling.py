"""Sampling and greedy answers in this process, by transformers' `generate` and by ours: `python -m benchmarks.sampling`.

Both go through the product's own sampling step, into a file, with one model that LLaMA-Factory's chat engine has loaded:
what `solopo build` and `solopo eval` do after loading. Models have random weights and published shapes. An answer ends at
any of many tokens, so that lengths spread as those of a model that was trained (40 tokens in the mean where they are drawn).
Before anything is timed, greedy answers in float32 must be the same tokens both ways.
"""

import argparse
import gc
import json
import platform
import random
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from operator import eq
from pathlib import Path

import torch

from solopo_llamafactory.common.markdown import table
from solopo_llamafactory.sampling import engine as engines
from solopo_llamafactory.sampling import loop as sampling
from solopo_llamafactory.sampling import streaming
from solopo_llamafactory.sampling.arguments import SamplingArguments
from solopo_llamafactory.sampling.base import Sample
from solopo_llamafactory.sampling.engine import EngineSampler

from .cells import JITTER, TINY_FACTOR
from .workload import ROOT, TEMPLATE, TEMPLATE_TOKENS, vocabulary, write_model


END_EVERY = 40  # token ids
ANSWER = 96  # most new tokens
COLUMNS = "model prompt answers engine batch_size questions s answers/s tokens/s times GiB".split()
CHECKED = {"questions": 24, "tokens": 300}


@dataclass(frozen=True)
class Case:
    """Questions asked one way.

    Args:
        shape: a key of `cells.SHAPES`.
        tokens: of a prompt; it is shorter at random by up to `JITTER`.
        n: answers drawn to a question; 0 for one greedy answer.
        engine: `generate` for transformers', `slots` for ours.
        questions: how many; enough for a steady rate.
        batch_size: as in the product's arguments.
    """

    shape: str
    tokens: int
    n: int
    engine: str
    questions: int
    batch_size: int | None = None

    @property
    def name(self) -> str:
        kind = f"{self.n} drawn" if self.n else "greedy"
        batch = "" if self.batch_size is None else f" batch_size {self.batch_size}"
        return f"{self.shape} {self.tokens} {kind} {self.engine}{batch}"


SMALL, LARGE = "smollm2-135m", "qwen2.5-7b"
CASES = [
    Case(SMALL, 1100, 16, "generate", 8),
    Case(SMALL, 1100, 16, "generate", 24, 8),
    Case(SMALL, 1100, 16, "slots", 799),
    Case(SMALL, 1100, 0, "generate", 12),
    Case(SMALL, 1100, 0, "generate", 96, 32),
    Case(SMALL, 1100, 0, "slots", 1200),
    Case(SMALL, 7500, 0, "generate", 8),
    Case(SMALL, 7500, 0, "slots", 256),
    Case(SMALL, 32000, 0, "generate", 4),
    Case(SMALL, 32000, 0, "slots", 32),
    Case(LARGE, 1100, 16, "generate", 4),
    Case(LARGE, 1100, 16, "generate", 16, 8),
    Case(LARGE, 1100, 16, "slots", 192),
    Case(LARGE, 1100, 0, "generate", 8),
    Case(LARGE, 1100, 0, "generate", 64, 32),
    Case(LARGE, 1100, 0, "slots", 384),
    Case(LARGE, 7500, 0, "generate", 5),
    Case(LARGE, 7500, 0, "slots", 96),
    Case(LARGE, 32000, 0, "generate", 3),
    Case(LARGE, 32000, 0, "slots", 12),
]


def main(argv: list[str] | None = None) -> int:
    """Returns 1 when the two ways give different greedy answers in float32."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "saves" / "benchmarks" / "sampling.jsonl")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="cases whose name contains one of these"
    )
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="start no case after this time")
    parser.add_argument("--tiny", action="store_true", help="the same cases on a CPU with a tiny model")
    args = parser.parse_args(argv)
    if not args.tiny and not torch.cuda.is_available():
        sys.exit("benchmarks.sampling: there is no GPU here. Add --tiny for a trial on the CPU.")
    start = time.monotonic()
    cases = [tiny(case) if args.tiny else case for case in CASES if any(text in case.name for text in args.only)]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "benchmarks.sampling", *(sys.argv[1:] if argv is None else argv)])
    facts = {"machine": machine(), "versions": versions(), "command": command}
    rows: list[dict] = []
    equal = True
    with tempfile.TemporaryDirectory() as name:
        for shape in dict.fromkeys(case.shape for case in cases):
            folder = Path(name) / shape
            write_weights(shape, folder)
            if shape != LARGE:
                equal &= check(folder)
            with loaded(folder) as sampler:
                say_resumed(sampler, folder)
                for case in (case for case in cases if case.shape == shape):
                    if time.monotonic() - start > args.limit_seconds:
                        print(f"{case.name}: left out, the time was over", flush=True)
                        continue
                    row = {**asdict(case), **measure(case, sampler, folder), **facts}
                    row["date"] = datetime.now(UTC).isoformat(timespec="seconds")
                    rows.append(row)
                    with args.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(
                        f"{case.name}: {row['seconds']:.1f} s, {row['answers_per_second']:.3g} answers/s", flush=True
                    )
    print(f"\n{facts['machine']}, {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}\n")
    print(markdown(rows))
    return int(not equal)


def tiny(case: Case) -> Case:
    """The case on a CPU: a tiny model, fewer and shorter prompts."""
    return Case(
        "tiny", case.tokens // TINY_FACTOR, min(case.n, 4), case.engine, min(case.questions, 6), case.batch_size
    )


def write_weights(shape: str, folder: Path) -> None:
    """A checkpoint with random weights and its tokenizer, for which a word is a token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    write_model(shape, folder)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        config = AutoConfig.from_pretrained(folder)
        AutoModelForCausalLM.from_config(config, dtype=config.dtype).save_pretrained(folder)
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def loaded(folder: Path) -> Iterator[EngineSampler]:
    """A sampler with the model in place and many ends."""
    sampler = EngineSampler(arguments(folder))
    engine = sampler.chat_model.engine
    ends = list(range(0, engine.model.config.vocab_size, END_EVERY))
    engine.template.get_stop_token_ids = lambda tokenizer: ends
    try:
        yield sampler
    finally:
        sampler.close()


def arguments(folder: Path, case: Case | None = None, **changes) -> SamplingArguments:
    """What the product is given for a case."""
    drawn = {} if case is None else {"n": case.n or 1, "temperature": 0.85 if case.n else 0.0}
    batch = {} if case is None else {"batch_size": case.batch_size}
    model = {"model_name_or_path": str(folder), "template": TEMPLATE, "max_new_tokens": ANSWER}
    return SamplingArguments(**model, **drawn, **batch, **changes)


def questions(count: int, tokens: int, jitter: float = JITTER) -> list[dict]:
    """Prompts of random words."""
    rng = random.Random(0)
    words = vocabulary()
    lengths = [max(1, tokens - TEMPLATE_TOKENS - rng.randint(0, int(jitter * tokens))) for _ in range(count)]
    return [{"id": f"q{i}", "prompt": " ".join(rng.choices(words, k=length))} for i, length in enumerate(lengths)]


@contextmanager
def counted() -> Iterator[list[list[int]]]:
    """Collects the tokens of all answers, in the order in which they become texts."""
    found: list[list[int]] = []
    original = engines.samples_of

    def samples_of(engine, generation_config, answers):
        ends = set(engine.template.get_stop_token_ids(engine.tokenizer))
        for answer in answers:
            length = next((i for i, token in enumerate(answer, 1) if token in ends), len(answer))
            found.append(list(answer[:length]))
        return original(engine, generation_config, answers)

    engines.samples_of = streaming.samples_of = samples_of
    try:
        yield found
    finally:
        engines.samples_of = streaming.samples_of = original


def ask(case: Case, sampler: EngineSampler, folder: Path, rows: list[dict]) -> tuple[float, list[list[int]]]:
    """Seconds of the product's sampling step for these rows, and the answers' tokens."""
    sampler.args = arguments(folder, case)
    sampler.chat_model.engine.generating_args.update(
        do_sample=case.n > 0, temperature=sampler.args.temperature, num_return_sequences=1
    )
    asked = sampler if case.engine == "slots" else _OldWay(sampler)
    with tempfile.TemporaryDirectory() as output, counted() as answers:
        start = time.perf_counter()
        sampling.sample(sampler.args, rows, Path(output, "samples.jsonl"), asked, disable=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start, answers


class _OldWay:
    """The sampler as it is for a model that our generation does not take."""

    def __init__(self, sampler: EngineSampler) -> None:
        self.workers, self.together, self._sampler = sampler.workers, sampler.together, sampler

    def __call__(self, row: dict) -> list[Sample]:
        return self._sampler(row)


def measure(case: Case, sampler: EngineSampler, folder: Path) -> dict:
    """A case's row."""
    rows = questions(case.questions, case.tokens)
    ask(case, sampler, folder, rows[: case.batch_size or 1])  # kernels are loaded and chosen
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds, answers = ask(case, sampler, folder, rows)
    peak = round(torch.cuda.max_memory_allocated() / 2**30, 2) if torch.cuda.is_available() else None
    tokens = sum(map(len, answers))
    return {
        "seconds": round(seconds, 3),
        "answers": len(answers),
        "answer_tokens": tokens,
        "answers_per_second": len(answers) / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_gib": peak,
    }


def check(folder: Path) -> bool:
    """Whether greedy answers in float32 are the same tokens both ways, for prompts of all lengths."""
    with loaded(folder) as sampler:
        sampler.chat_model.engine.model.float()
        rows = questions(CHECKED["questions"], CHECKED["tokens"], jitter=0.99)
        rows.sort(key=lambda row: len(row["prompt"]))
        _, ours = ask(Case("", 0, 0, "slots", 0), sampler, folder, rows)
        _, theirs = ask(Case("", 0, 0, "generate", 0), sampler, folder, rows)
    ours, theirs = (sorted(answers) for answers in (ours, theirs))  # ours come in another order
    print(f"float32, greedy: {sum(map(eq, ours, theirs))} of {len(rows)} answers are equal", flush=True)
    return ours == theirs


def say_resumed(sampler: EngineSampler, folder: Path) -> None:
    """How many drawn answers are the same after a stop in the middle as without one, in the model's own precision."""
    sampler.args = arguments(folder, Case("", 0, 4, "slots", 0))
    sampler.chat_model.engine.generating_args.update(do_sample=True, temperature=sampler.args.temperature)
    rows = questions(CHECKED["questions"], CHECKED["tokens"])
    with tempfile.TemporaryDirectory() as output, counted() as answers:
        path = Path(output, "samples.jsonl")
        sampling.sample(sampler.args, rows, path, sampler, disable=True)
        whole = sorted(answers)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2]))
        answers.clear()
        sampling.sample(sampler.args, rows, path, sampler, disable=True)
        same = sum((Counter(map(tuple, whole)) & Counter(map(tuple, answers))).values())
    print(
        f"{folder.name}, drawn, stopped in the middle: {same} of {len(answers)} further answers are the same",
        flush=True,
    )


def markdown(rows: list[dict]) -> str:
    """One line a row, in Markdown; a ratio is to the fastest row of `generate` for the same questions."""
    lines = []
    for row in rows:
        alike = [o for o in rows if all(o[key] == row[key] for key in ("shape", "tokens", "n"))]
        rates = [other["answers_per_second"] for other in alike if other["engine"] == "generate"]
        times = f"{row['answers_per_second'] / max(rates):.1f}" if rates and row["engine"] == "slots" else ""
        cells = [row["shape"], row["tokens"], f"{row['n']} drawn" if row["n"] else "greedy", row["engine"]]
        cells += [row["batch_size"] or "", row["questions"], f"{row['seconds']:.1f}"]
        cells += [f"{row['answers_per_second']:.3g}", f"{row['tokens_per_second']:.0f}", times, row["peak_gib"]]
        lines.append(cells)
    return table(COLUMNS, lines)


def machine() -> str:
    """The GPU's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Of what decides the speed."""
    return {name: version(name) for name in ("torch", "transformers", "llamafactory")}


if __name__ == "__main__":
    sys.exit(main())
