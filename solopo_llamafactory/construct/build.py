"""`solopo build`: reads a source, makes contexts and answers, writes one example a line."""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from .arguments import BuildArguments
from .errors import ConstructError, Skip
from .registration import registration_lines
from .rendering import Renderer
from .responses import templated
from .sources import SOURCES, MusiqueSource, Question
from .synthesize import Context, Synthesizer


@dataclass
class Summary:
    """What a run wrote and what it left out."""

    path: str
    wanted: int
    written: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    shortfalls: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, list[int]] = field(default_factory=lambda: {"short": [], "long": []})

    def lines(self) -> list[str]:
        """The closing lines of the command."""
        lines = [f"Wrote {self.written} examples to {self.path} in {self.seconds:.1f} s."]
        if self.written < self.wanted:
            lines.append(f"Fewer than num_examples ({self.wanted}): the input has no more usable questions.")
        lines.append("Skipped: " + (reasons(self.skipped) or "none") + ".")
        for view, count in self.shortfalls.items():
            lines.append(
                f"{count} {view} contexts stay below {view}_tokens: the input has no more documents for them."
            )
        for view, counts in self.tokens.items():
            lines.append(f"{view.capitalize()} prompt tokens: {quantiles(counts)}.")
        return lines


def reasons(skipped: Counter[str]) -> str:
    """Counts by reason, the commonest first."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items(), key=lambda x: (-x[1], x[0])))


def quantiles(values: list[int]) -> str:
    """Smallest, 10%, 50%, 90% and largest of a list."""
    ordered = sorted(values)
    picks = {name: ordered[round(share * (len(ordered) - 1))] for name, share in QUANTILES.items()}
    return ", ".join(f"{name} {value}" for name, value in picks.items())


QUANTILES = {"min": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "max": 1.0}


def build(args: BuildArguments) -> Summary:
    """Runs all steps; the output appears complete or not at all."""
    from tqdm import tqdm

    source = SOURCES[args.source]()
    start = time.perf_counter()
    questions = list(source.read(args.input))
    if not questions:
        raise ConstructError(f"input '{args.input}' holds no records: give a file with one JSON object a line.")
    print(f"Read {len(questions)} questions from {args.input}; loading tokenizer and template.", file=sys.stderr)
    renderer = Renderer(args.tokenizer, args.template)
    synthesizer = Synthesizer(questions, renderer, args.seed)

    # A cut to num_examples must not keep the file's head alone.
    order = list(questions)
    random.Random(f"{args.seed}|order").shuffle(order)
    summary = Summary(args.output, args.num_examples)
    with (
        atomic_writer(args.output) as file,
        tqdm(total=min(args.num_examples, len(order)), desc="building", unit="ex", dynamic_ncols=True) as progress,
    ):
        for question in order:
            if summary.written == args.num_examples:
                break
            try:
                if question.problem is not None:
                    raise Skip(question.problem)
                short, long = synthesizer.contexts(question, args.short_tokens, args.long_tokens)
                chosen, rejected, kind = templated(question, random.Random(f"{args.seed}|{question.id}|responses"))
            except Skip as skip:
                summary.skipped[str(skip)] += 1
                continue
            example = {
                "id": question.id,
                "short_prompt": short.prompt,
                "long_prompt": long.prompt,
                "chosen": chosen,
                "rejected": rejected,
                "meta": json.dumps(make_meta(question, short, long, source, args, kind), ensure_ascii=False),
            }
            file.write(json.dumps(example, ensure_ascii=False) + "\n")
            summary.written += 1
            for view, context in (("short", short), ("long", long)):
                summary.tokens[view].append(context.tokens)
                summary.shortfalls[view] += context.shortfall
            progress.update()
        if not summary.written:
            raise ConstructError(f"no example could be written to '{args.output}': {reasons(summary.skipped)}.")
    summary.shortfalls = +summary.shortfalls
    summary.seconds = time.perf_counter() - start
    return summary


def make_meta(
    question: Question, short: Context, long: Context, source: MusiqueSource, args: BuildArguments, rejected_kind: str
) -> dict:
    """What a reader of the file may want to know about an example."""
    return {
        "question": question.text,
        "answers": list(question.answers),
        "hops": len(question.hops),
        "source": source.name,
        "licence": source.licence,
        "responses": args.responses,
        "rejected_kind": rejected_kind,
        "evidence": [document.title for document in question.evidence],
        "evidence_positions": {"short": list(short.positions), "long": list(long.positions)},
        "documents": {"short": short.documents, "long": long.documents},
        "tokens": {"short": short.tokens, "long": long.tokens},
        "template": args.template,
        "seed": args.seed,
    }


@contextmanager
def atomic_writer(path: str) -> Iterator[TextIO]:
    """Opens a file beside `path` that takes its place when all went well and is removed when not."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise ConstructError(f"output '{path}' cannot be written ({error}): give another output.") from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def run_build(args: BuildArguments) -> None:
    """Builds and prints the closing lines."""
    summary = build(args)
    print("\n".join(summary.lines() + registration_lines(args.output)))
