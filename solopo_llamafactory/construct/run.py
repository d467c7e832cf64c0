"""`solopo build` and its steps: synthesize, sample, select, report."""

import sys
from functools import partial

from ..common.counts import reasons
from ..questions.rendering import Renderer
from ..sampling.base import Sampler
from ..sampling.loop import sample
from ..sampling.marks import Marks, make_marks
from ..sampling.samplers import make_sampler
from .arguments import BuildArguments
from .page import write_report
from .register import refuse_taken_names, register
from .select import count_pairs, sample_remarks, select
from .synthesize import read_short_contexts, ready_contexts, synthesize


def run_build(args: BuildArguments) -> None:
    """All steps; what an interrupted run has finished is kept."""
    refuse_taken_names(args)
    sampler = make_sampler(args)  # what is missing for it shows now
    renderer = Renderer(args.tokenizer, args.template)
    summary = ready_contexts(args)
    if summary is None:
        summary = synthesize(args, renderer)
    else:
        print(f"{args.contexts_path} is there already, made with the same arguments.", file=sys.stderr)
    say_contexts(args, summary)
    run_sample(args, sampler, renderer)
    run_select(args, renderer)
    run_report(args)


def run_synthesize(args: BuildArguments) -> None:
    """Contexts alone."""
    say_contexts(args, synthesize(args, Renderer(args.tokenizer, args.template)))


def run_sample(args: BuildArguments, sampler: Sampler | None = None, renderer: Renderer | None = None) -> None:
    """Samples alone; goes on where an earlier run has stopped."""
    rows = list(read_short_contexts(args))
    sampler = sampler or make_sampler(args)
    marks = _marks(args, renderer or Renderer(args.tokenizer, args.template))
    markers, most = args.prompt_wording.markers, args.pairs_per_question
    pairs_of = partial(count_pairs, marks=marks, markers=markers, most=most)
    counts = sample(
        args,
        rows,
        args.samples_path,
        sampler,
        pairs_of,
        args.pairs_wanted,
        lambda each: marks.read(each.text, each.finish).problem,
    )
    print(
        f"Samples of {counts.finished} of {counts.questions} questions in {args.samples_path}, enough for "
        f"{counts.usable} pairs."
    )


def run_select(args: BuildArguments, renderer: Renderer | None = None) -> None:
    """Pairs and their entry in `dataset_info.json`."""
    renderer = renderer or Renderer(args.tokenizer, args.template)
    counts = select(args, renderer, _marks(args, renderer))
    print(f"Wrote {counts['train']} pairs to {args.output}.")
    if counts["train"] < args.num_examples:
        print(
            f"Fewer than num_examples ({args.num_examples}): raise num_contexts, n or max_new_tokens, or give more "
            "questions."
        )
    for hops, by_reason in counts["hops"].items():
        problems = {reason: count for reason, count in by_reason.items() if reason != "questions"}
        rate = counts["sub_em"].get(hops, 0)
        print(
            f"{by_reason['questions']} questions of {hops} hops: {reasons(problems)}; {rate:.0%} of the answers are right."
        )
    for _, text in sample_remarks(counts):
        print(text)
    if counts["held_out"]:
        shared = f"{counts['sharing_evidence']} of them with evidence that is evidence of a training pair, too"
        print(f"Wrote {counts['held_out']} held-out pairs to {args.held_out_path}, {shared}.")
    names = register(args, counts["held_out"] > 0)
    print(f"Registered in {args.dataset_info}: {', '.join(names)}. Train with `dataset: {names[0]}`.")


def run_report(args: BuildArguments) -> None:
    """The page about the pairs."""
    write_report(args)
    print(f"Look at {args.report_path}.")


def _marks(args: BuildArguments, renderer: Renderer) -> Marks:
    return make_marks(args, renderer.tokenizer, remove_thoughts=args.remove_thoughts)


def say_contexts(args: BuildArguments, summary: dict) -> None:
    """The closing lines of synthesis."""
    print(f"Contexts of {summary['written']} of {summary['questions']} questions in {args.contexts_path}.")
    print(f"Skipped: {reasons(summary['skipped']) or 'none'}.")
    for view, count in summary["shortfalls"].items():
        if count:
            print(
                f"{count} {view} contexts stay well below {view}_tokens: the input has no more documents that fit (give a "
                "corpus, or split long documents)."
            )


STEPS = {
    "build": run_build,
    "synthesize": run_synthesize,
    "sample": run_sample,
    "select": run_select,
    "report": run_report,
}
