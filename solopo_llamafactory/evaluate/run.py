"""`solopo eval`: contexts, answers, scores and the page."""

import sys

from ..common.counts import reasons
from ..common.errors import SolopoError
from ..questions.rendering import Renderer
from ..sampling.marks import make_marks
from .answers import ask_models
from .arguments import EvalArguments
from .grid import make_grid, read_contexts, ready_grid


def run_eval(args: EvalArguments) -> None:
    """Asks all models and scores what is finished; what an interrupted run has finished is kept.

    Raises:
        SolopoError: for what cannot be begun; and, after scoring, where a model is not finished.
    """
    summary = ready_grid(args)
    renderer = Renderer(args.tokenizer, args.template)
    if summary is None:
        summary = make_grid(args, renderer)
    else:
        print(f"{args.contexts_path} is there already, made with the same arguments.", file=sys.stderr)
    _say_grid(args, summary)
    marks = {model.name: make_marks(args, renderer.tokenizer, model.template) for model in args.models}
    stopped = ask_models(args, read_contexts(args), marks)

    from .page import write_page
    from .scoring import score

    write_page(args, score(args, marks, stopped), marks)
    print(f"Results: {args.folder / 'table.md'}; look at {args.folder / 'report.html'}.")
    if stopped:
        raise SolopoError(
            f"{len(stopped)} of {len(args.models)} models are not finished ("
            + "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in stopped.items())
            + "): what is finished is scored, and the same command asks for the rest."
        )


def _say_grid(args: EvalArguments, summary: dict) -> None:
    cells = len(args.lengths) * len(args.depths)
    print(f"{summary['questions']} questions in each of {cells} cells, in {args.contexts_path}.")
    print(f"Left out: {reasons(summary['skipped']) or 'none'}.")
    if summary["questions"] < args.num_questions:
        print(
            f"Fewer than num_questions ({args.num_questions}): give more questions, or longer lengths to begin with."
        )
    if summary["other_texts"]:
        texts = ", ".join(summary["other_texts"])
        print(f"The wording of the prompts differs from that of the pairs in {args.exclude} ({texts}).")
    for length, count in summary["short"].items():
        if count:
            print(f"{count} contexts of length {length} stay well below it: no more documents fit (give a corpus).")
