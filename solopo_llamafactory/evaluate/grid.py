"""The grid: every question in a context of each length, its evidence at each depth, in `contexts.jsonl`."""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ..common.counts import reasons
from ..common.errors import Skip, SolopoError
from ..common.files import atomic_writer, input_stamps, read_json, read_rows, write_json, write_line
from ..common.parallel import map_in_order, number_of_workers
from ..questions.contexts import Placement, Synthesizer
from ..questions.loading import load_questions
from ..questions.rendering import Renderer
from ..questions.sources import SOURCES, Question
from .arguments import EvalArguments
from .training_pairs import TrainingPairs


# Arguments that change the contexts.
SHAPING = ("source", "input", "corpus", "exclude", "allow_answer_in_distractors", "tokenizer", "template")
SHAPING += ("task", "lengths", "depths", "num_questions", "seed", "wording")


@dataclass(frozen=True)
class Column:
    """One question's contexts of one length: the same distractors, and tokens for each depth."""

    chosen: list[int]
    tokens: list[int]
    shortfall: bool


def single_doc(depth: float, rng: random.Random, total: int, count: int) -> list[int]:
    """All evidence side by side: first at depth 0, last at 1."""
    first = round(depth * (total - count))
    return list(range(first, first + count))


def multi_doc(depth: float, rng: random.Random, total: int, count: int) -> list[int]:
    """The first piece at its depth, the others at equal distances after it, wrapping round."""
    first = round(depth * (total - 1))
    return [(first + i * total // count) % total for i in range(count)]


TASKS = {"single_doc": single_doc, "multi_doc": multi_doc}


def placements(task: str, depths: Sequence[float]) -> list[Placement]:
    """Where the evidence goes at each depth."""
    return [partial(TASKS[task], depth) for depth in depths]


def ready_grid(args: EvalArguments) -> dict | None:
    """What `make_grid` would return, where an earlier run has left the very same contexts.

    Raises:
        SolopoError: where the folder holds answers to contexts of other arguments.
    """
    if not (args.grid_path.is_file() and args.contexts_path.is_file()):
        return None
    summary = read_json(args.grid_path, "eval")
    old, new = summary.get("arguments", {}), shaping_arguments(args)
    if old == new:
        return summary
    changed = [key for key in SHAPING if old.get(key) != new[key]]
    if changed and any(args.folder.glob("answers/*.jsonl")):
        raise SolopoError(
            f"output '{args.output}' holds answers to other contexts ({', '.join(changed)} differ): write another output, "
            "or delete this folder."
        )
    return None


def shaping_arguments(args: EvalArguments) -> dict:
    """What the contexts depend on: arguments, and size and time of what is read from disk."""
    shaping = {name: getattr(args, name) for name in SHAPING}
    paths = {name: getattr(args, name) for name in ("input", "corpus", "exclude")}
    paths["tokenizer"] = os.path.join(args.tokenizer, "tokenizer.json")
    return shaping | input_stamps(paths)


def make_grid(args: EvalArguments, renderer: Renderer) -> dict:
    """Write `contexts.jsonl` and `grid.json`, complete or not at all, and return what the latter holds.

    Raises:
        SolopoError: when no question can take part, or the documents do not fill a length.
    """
    from tqdm import tqdm

    questions, synthesizer = load_questions(args, renderer, args.seed)
    training = None if args.exclude is None else TrainingPairs(args.exclude)

    skipped: Counter[str] = Counter()
    too_long: list[int] = []  # tokens of evidence over the smallest length
    taken: list[tuple[Question, list[Column]]] = []
    make = _ColumnMaker(args, synthesizer, training)
    with tqdm(total=min(args.num_questions, len(questions)), desc="contexts", dynamic_ncols=True) as progress:
        for question, made in zip(
            questions, map_in_order(make, questions, number_of_workers(args.preprocessing_num_workers), batch_size=1)
        ):
            if isinstance(made, str):
                skipped[made] += 1
            elif isinstance(made, int):
                skipped["evidence over the smallest length"] += 1
                too_long.append(made)
            else:
                taken.append((question, made))
                progress.update()
                if len(taken) == args.num_questions:
                    break
    if not taken:
        raise SolopoError(_nothing_left(args, skipped, too_long))
    short = Counter()
    for i, length in enumerate(args.lengths):
        short[length] = sum(columns[i].shortfall for _, columns in taken) * len(args.depths)
        if short[length] > len(taken) * len(args.depths) / 2:
            raise SolopoError(_unfilled(args, i, [columns[i] for _, columns in taken]))
    with atomic_writer(args.contexts_path) as file:
        for row in _rows(args, synthesizer, taken):
            write_line(file, row)
    summary = {
        "arguments": shaping_arguments(args),
        "questions": len(taken),
        "read": len(questions),
        "skipped": dict(skipped.most_common()),
        "short": {str(length): count for length, count in short.items()},
        "other_texts": [] if training is None else training.other_texts(args.prompt_wording),
    }
    write_json(args.grid_path, summary)
    return summary


def _nothing_left(args: EvalArguments, skipped: Counter[str], too_long: Sequence[int]) -> str:
    if too_long:
        return (
            f"no question of '{args.input}' fits lengths from {args.lengths[0]} ({reasons(skipped)}): evidence and "
            f"question alone take {min(too_long)} to {max(too_long)} tokens, so begin lengths at "
            f"{sorted(too_long)[len(too_long) * 9 // 10]} or more."
        )
    return f"no question of '{args.input}' can take part ({reasons(skipped)}): give other questions."


def _unfilled(args: EvalArguments, i: int, columns: Sequence[Column]) -> str:
    """Why there is no grid with its length number `i`, from all questions' contexts of it."""
    length = args.lengths[i]
    tokens = sorted(min(column.tokens) for column in columns if column.shortfall)
    documents = f"'{args.input}'" if args.corpus is None else f"'{args.input}' and the corpus '{args.corpus}'"
    less = f"drop lengths from {length} on" if i else f"write lengths of {tokens[0]} tokens and less"
    return (
        f"length {length} cannot be filled: the documents of {documents} give contexts of {tokens[-1]} tokens at most for "
        f"{len(tokens)} of {len(columns)} questions; give a `corpus` of more or shorter documents, or {less}."
    )


def _rows(
    args: EvalArguments, synthesizer: Synthesizer, taken: Sequence[tuple[Question, list[Column]]]
) -> Iterator[dict]:
    """The lines of `contexts.jsonl`. One context is held at a time: a grid may be larger than the memory."""
    for i, length in enumerate(args.lengths):
        for j, (depth, placement) in enumerate(zip(args.depths, placements(args.task, args.depths))):
            for question, columns in taken:
                chosen = columns[i].chosen
                documents, positions = synthesizer.lay_out(question, chosen, f"{length} tokens", placement)
                yield {
                    "id": f"{question.id}|{length}|{depth:g}",
                    "question_id": question.id,
                    "length": length,
                    "depth": depth,
                    "hops": question.num_hops,
                    "question": question.text,
                    "answers": list(question.answers),
                    "prompt": args.prompt_wording.prompt(documents, question.text),
                    "tokens": columns[i].tokens[j],
                    "documents": len(documents),
                    "positions": list(positions),
                    "evidence": [document.title for document in question.evidence],
                    "source": args.source,
                    "licence": SOURCES[args.source].licence,
                }


class _ColumnMaker:
    """A question's contexts of all lengths; or why there are none; or its evidence's tokens, where these are too many."""

    def __init__(self, args: EvalArguments, synthesizer: Synthesizer, training: "TrainingPairs | None") -> None:
        self.lengths = args.lengths
        self.placements = placements(args.task, args.depths)
        self.synthesizer = synthesizer
        self.training = training

    def __call__(self, question: Question) -> list[Column] | str | int:
        problem = question.problem or (self.training and self.training.problem(question))
        if problem:
            return problem
        gold_tokens = self.synthesizer.gold_tokens(question)
        if gold_tokens > self.lengths[0]:
            return gold_tokens
        candidates = self.synthesizer.candidates(question)
        columns: list[Column] = []
        chosen: list[int] = []
        try:
            for length in self.lengths:
                contexts, chosen = self.synthesizer.fit(
                    question, candidates, gold_tokens, length, f"{length} tokens", self.placements, chosen
                )
                shortfall = any(context.shortfall for context in contexts)
                columns.append(Column(list(chosen), [context.tokens for context in contexts], shortfall))
        except Skip:  # evidence in another order takes a token more
            return gold_tokens
        return columns


def read_contexts(args: EvalArguments) -> list[dict]:
    """The rows of `contexts.jsonl`."""
    return list(read_rows(args.contexts_path, "eval"))
