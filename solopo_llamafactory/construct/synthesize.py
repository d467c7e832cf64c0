"""`solopo synthesize`: the short and the long context of each question, in `contexts.jsonl`."""

import os
from collections import Counter
from collections.abc import Iterator

from ..common.counts import reasons
from ..common.errors import Skip, SolopoError
from ..common.files import atomic_writer, input_stamps, read_json, read_rows, write_json, write_line
from ..common.parallel import map_in_order, number_of_workers
from ..questions.contexts import Context, Synthesizer
from ..questions.loading import load_questions
from ..questions.rendering import Renderer
from ..questions.sources import SOURCES, Question
from .arguments import BuildArguments


# Arguments that change the contexts.
SHAPING = ("source", "input", "corpus", "tokenizer", "template", "short_tokens", "long_tokens", "seed", "verify")
SHAPING += ("allow_answer_in_distractors", "wording")


def synthesize(args: BuildArguments, renderer: Renderer) -> dict:
    """Write `contexts.jsonl` and `synthesis.json`, complete or not at all, and return what the latter holds.

    Raises:
        SolopoError: when no context could be made.
    """
    from tqdm import tqdm

    questions, synthesizer = load_questions(args, renderer, args.seed, args.verify)
    tasks = [(question, args.long_budgets[i % len(args.long_budgets)]) for i, question in enumerate(questions)]
    written, skipped, shortfalls = 0, Counter(), Counter()
    with (
        atomic_writer(args.contexts_path) as file,
        tqdm(total=min(args.contexts_wanted, len(questions)), desc="contexts", dynamic_ncols=True) as progress,
    ):
        make = _ContextMaker(synthesizer, args.short_tokens)
        for (question, budget), made in zip(
            tasks, map_in_order(make, tasks, number_of_workers(args.preprocessing_num_workers))
        ):
            if isinstance(made, str):
                skipped[made] += 1
                continue
            short, long = made
            write_line(file, make_row(args, question, short, long, budget))
            shortfalls.update({"short": int(short.shortfall), "long": int(long.shortfall)})
            progress.update()
            written += 1
            if written == args.contexts_wanted:
                break
        if not written:
            raise SolopoError(
                f"no context could be made from '{args.input}' ({reasons(skipped)}): {_what_to_change(skipped)}."
            )
    summary = {
        "arguments": shaping_arguments(args),
        "questions": len(questions),
        "written": written,
        "skipped": dict(skipped.most_common()),
        "shortfalls": {view: shortfalls[view] for view in ("short", "long")},
    }
    write_json(args.synthesis_path, summary)
    return summary


def read_short_contexts(args: BuildArguments) -> Iterator[dict]:
    """The rows of contexts.jsonl as sampling takes them: their short prompt as `prompt`, without the long one."""
    for row in read_rows(args.contexts_path, "synthesize"):
        del row["long_prompt"]  # by far the largest part
        row["prompt"] = row.pop("short_prompt")
        yield row


def _what_to_change(skipped: Counter[str]) -> str:
    wanted = {
        "raise short_tokens and long_tokens, or give shorter evidence": any(
            "evidence alone over" in key for key in skipped
        ),
        "give more documents (a corpus), or lower short_tokens": "too few distractors" in skipped,
    }
    return ", or ".join(text for text, is_wanted in wanted.items() if is_wanted) or "give other questions"


def ready_contexts(args: BuildArguments) -> dict | None:
    """What `synthesize` would return, where an earlier run has left the very same contexts."""
    path = args.synthesis_path
    if not (path.is_file() and args.contexts_path.is_file()):
        return None
    summary = read_json(path, "synthesize")
    return summary if summary.get("arguments") == shaping_arguments(args) else None


def shaping_arguments(args: BuildArguments) -> dict:
    """What the contexts depend on: arguments, and size and time of what is read from disk."""
    shaping = {name: getattr(args, name) for name in SHAPING} | {"num_contexts": args.contexts_wanted}
    paths = {"input": args.input, "corpus": args.corpus, "tokenizer": os.path.join(args.tokenizer, "tokenizer.json")}
    return shaping | input_stamps(paths)


def make_row(args: BuildArguments, question: Question, short: Context, long: Context, budget: int) -> dict:
    """A line of `contexts.jsonl`."""
    return {
        "id": question.id,
        "question": question.text,
        "answers": list(question.answers),
        "hops": question.num_hops,
        "short_prompt": short.prompt,
        "long_prompt": long.prompt,
        "evidence": [{"title": document.title, "text": document.text} for document in question.evidence],
        "meta": {
            "source": args.source,
            "licence": SOURCES[args.source].licence,
            "template": args.template,
            "wording": args.wording,
            "seed": args.seed,
            "budgets": {"short": args.short_tokens, "long": budget},
            "tokens": {"short": short.tokens, "long": long.tokens},
            "documents": {"short": short.documents, "long": long.documents},
            "evidence_positions": {"short": list(short.positions), "long": list(long.positions)},
            "evidence_depths": {"short": short.depths, "long": long.depths},
        },
    }


class _ContextMaker:
    """The two contexts of a question, or the reason why there are none."""

    def __init__(self, synthesizer: Synthesizer, short_tokens: int) -> None:
        self.synthesizer = synthesizer
        self.short_tokens = short_tokens

    def __call__(self, task: tuple[Question, int]) -> tuple[Context, Context] | str:
        question, long_tokens = task
        try:
            if question.problem is not None:
                raise Skip(question.problem)
            return self.synthesizer.contexts(question, self.short_tokens, long_tokens)
        except Skip as skip:
            return str(skip)
