"""`solopo report`: a page that shows in two minutes whether the data is good, and its figures as JSON."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import SolopoError
from ..common.files import atomic_writer, read_json, read_rows, write_json
from ..common.pages import load_template
from ..questions.sources import Document
from ..questions.wording import Wording
from .arguments import BuildArguments
from .select import sample_remarks


VIEWS = ("short", "long")
TENTHS = np.linspace(0, 1, 11)
EXAMPLES = 5
SAMPLE_COUNTS = ("samples", "cut_off", "unclear", "end_marks", "unusable")
LABELS = {
    "short_tokens": "short prompt, tokens",
    "long_tokens": "long prompt, tokens",
    "rho": "rho (short / long)",
    "short_documents": "short prompt, documents",
    "long_documents": "long prompt, documents",
    "chosen_tokens": "chosen answer, tokens",
    "rejected_tokens": "rejected answer, tokens",
}


@dataclass
class Pairs:
    """The numbers of a file of pairs, without its texts."""

    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LABELS})  # a value a pair
    hops: list[int] = field(default_factory=list)  # a value a pair
    questions: set[str] = field(default_factory=set)
    depths: dict[str, np.ndarray] = field(default_factory=lambda: {view: np.zeros(10) for view in VIEWS})
    num_evidence: int = 0
    budgets: dict[str, set[int]] = field(default_factory=lambda: {view: set() for view in VIEWS})
    over_budget: int = 0
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, meta: dict) -> None:
        """Count one pair."""
        tokens, documents, answers = meta["tokens"], meta["documents"], meta["answer_tokens"]
        row = {f"{view}_tokens": tokens[view] for view in VIEWS}
        row |= {f"{view}_documents": documents[view] for view in VIEWS}
        row |= {f"{side}_tokens": answers[side] for side in ("chosen", "rejected")}
        row["rho"] = tokens["short"] / tokens["long"]
        for name, value in row.items():
            self.columns[name].append(value)
        self.hops.append(meta["hops"])
        self.questions.add(meta["question_id"])
        for view in VIEWS:
            for position in meta["evidence_positions"][view]:
                self.depths[view] += spread(position, documents[view])
            self.budgets[view].add(meta["budgets"][view])
            self.over_budget += 0 < meta["budgets"][view] < tokens[view]
        self.num_evidence += len(meta["evidence_positions"]["long"])
        self.sources[meta["source"], meta["licence"]] += 1

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Five quantiles and the mean of each column."""
        shares = {"min": 0, "10%": 0.1, "median": 0.5, "90%": 0.9, "max": 1}
        return {
            name: {key: round(float(np.quantile(values, share)), 4) for key, share in shares.items()}
            | {"mean": round(float(np.mean(values)), 4)}
            for name, values in self.columns.items()
        }

    def depth_shares(self) -> dict[str, list[float]]:
        """The share of the evidence in each tenth of the context."""
        return {view: (self.depths[view] / self.depths[view].sum()).round(4).tolist() for view in VIEWS}

    @property
    def depth_noise(self) -> float:
        """Three standard errors of such a share where evidence is placed at random."""
        return 3 * (0.1 * 0.9 / self.num_evidence) ** 0.5


def spread(position: int, documents: int) -> np.ndarray:
    """A document's share of each tenth of the context, adding up to 1.

    It takes up its whole place, so evidence at random places fills the tenths evenly with few documents too.
    """
    start, end = (position - 1) / documents, position / documents
    return (np.minimum(TENTHS[1:], end) - np.maximum(TENTHS[:-1], start)).clip(0) * documents


def write_report(args: BuildArguments) -> None:
    """Write `report.html` and `summary.json` from the files of the other steps.

    Raises:
        SolopoError: naming the step that has to run first.
    """
    from .plots import draw_plots  # matplotlib takes seconds, and the other steps need none of it

    synthesis = read_json(args.synthesis_path, "synthesize")
    selection = read_json(args.selection_path, "select")
    if selection["contexts"] != synthesis["arguments"]:
        raise SolopoError(
            f"the pairs in '{args.output}' are of other contexts than '{args.contexts_path}' now holds: run `solopo "
            "sample` and `solopo select` with the same YAML first."
        )
    sampled = sum(group["questions"] for group in selection["hops"].values())
    train = read_pairs(Path(args.output), selection["train"])
    parts = {"train": train}
    if args.held_out_path.is_file():
        parts["held_out"] = read_pairs(args.held_out_path, selection["held_out"])

    summary = make_summary(args, parts, synthesis, selection, sampled)
    hops = {
        name: {
            "questions": group["questions"],
            "right_samples": selection["sub_em"].get(name, 0),
            "usable_questions": group.get("kept", 0) / group["questions"],
        }
        for name, group in selection["hops"].items()
    }
    budgets = {view: sorted(train.budgets[view]) for view in VIEWS}
    page = load_template(Path(__file__).with_name("page.html.jinja")).render(
        summary=summary,
        checks=list(checks(args, train, summary)),
        plots=draw_plots(train.columns, budgets, train.depth_shares(), train.depth_noise, hops),
        examples=read_examples(args, choose_examples(train.hops, args.seed)),
        labels=LABELS,
    )
    write_json(args.summary_path, summary)
    with atomic_writer(args.report_path) as file:
        file.write(page)


def read_pairs(path: Path, total: int) -> Pairs:
    """The numbers of a file of pairs, read line by line."""
    pairs = Pairs()
    for row in tqdm(read_rows(path, "select"), desc=f"reading {path.name}", total=total, dynamic_ncols=True):
        try:
            pairs.add(json.loads(row["meta"]))
        except KeyError as error:
            raise SolopoError(
                f"'{path}' has a pair without {error} in its meta: run `solopo select` with the same YAML again."
            ) from None
    if not pairs.hops:
        raise SolopoError(f"'{path}' holds no pairs: run `solopo select` with the same YAML first.")
    return pairs


def make_summary(
    args: BuildArguments, parts: dict[str, Pairs], synthesis: dict, selection: dict, sampled: int
) -> dict:
    """All figures of the page, ready for JSON."""
    reasons = sum((Counter(group) for group in selection["hops"].values()), Counter())
    judged, usable = reasons.pop("questions", 0), reasons.pop("kept", 0)
    num_pairs = {name: len(pairs.hops) for name, pairs in parts.items()}
    kept = sum(len(pairs.questions) for pairs in parts.values())
    skipped = dict(Counter(synthesis["skipped"]).most_common())
    sources = sum((pairs.sources for pairs in parts.values()), Counter())
    return {
        "pairs": {"train": 0, "held_out": 0} | num_pairs,
        "pairs_by_hops": {name: dict(sorted(Counter(pairs.hops).items())) for name, pairs in parts.items()},
        "questions": synthesis["questions"],
        "contexts": synthesis["written"],
        "sampled": sampled,
        "synthesis": {
            "of": synthesis["questions"],
            "kept": synthesis["written"],
            "dropped": skipped,
            "not needed": synthesis["questions"] - synthesis["written"] - sum(skipped.values()),
        },
        "selection": {
            "of": synthesis["written"],
            "kept": kept,
            "dropped": dict(reasons.most_common()),
            "not sampled": synthesis["written"] - judged,
            "not needed": usable - kept,
        },
        "samples": {"end_marks": 0, "unusable": {}}  # an earlier version counted neither
        | {name: selection[name] for name in SAMPLE_COUNTS if name in selection},
        "sub_em_by_hops": selection["sub_em"],
        "questions_by_hops": selection["hops"],
        "held_out_sharing_evidence": selection["sharing_evidence"],
        "shortfalls": synthesis["shortfalls"],
        "over_budget": sum(pairs.over_budget for pairs in parts.values()),
        "quantiles": {name: pairs.quantiles() for name, pairs in parts.items()},
        "evidence_depth": {name: pairs.depth_shares() for name, pairs in parts.items()},
        "sources": [
            {"source": name, "licence": licence, "pairs": n} for (name, licence), n in sorted(sources.items())
        ],
        # The contexts' own arguments, should the YAML have changed since.
        "arguments": {name: synthesis["arguments"].get(name, value) for name, value in asdict(args).items()},
    }


def checks(args: BuildArguments, train: Pairs, summary: dict) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is as it should be, a sentence)."""
    for name, wanted in (("train", args.num_examples), ("held_out", args.num_held_out)):
        if wanted:
            written = summary["pairs"][name]
            note = "" if written >= wanted else ": raise num_contexts, or give more questions"
            label = "training" if name == "train" else "held-out"
            yield written >= wanted, f"{written:,} of {wanted:,} {label} pairs asked for{note}."
    sharing = summary["held_out_sharing_evidence"]
    if summary["pairs"]["held_out"]:
        yield not sharing, f"{sharing:,} held-out pairs have evidence that is evidence of a training pair, too."

    over = summary["over_budget"]
    yield not over, f"{over:,} prompts are over their token budget."
    for view, count in summary["shortfalls"].items():
        if count:
            yield False, f"{count:,} {view} contexts ran out of documents below their budget: give a corpus of more."
    rho = np.median(train.columns["rho"])
    yield rho <= 0.5, f"Half of the long prompts are at least {1 / rho:.1f} times as long as the short ones."

    for view, shares in train.depth_shares().items():
        is_even = max(abs(share - 0.1) for share in shares) <= train.depth_noise
        found = "lies evenly over" if is_even else "is not evenly spread over"
        yield is_even, f"The evidence {found} the {view} contexts."

    chosen, rejected = (np.array(train.columns[f"{side}_tokens"]) for side in ("chosen", "rejected"))
    longer, shorter = np.mean(chosen > rejected), np.mean(chosen < rejected)
    yield (
        abs(longer - shorter) <= 0.2 + 2 / len(chosen) ** 0.5,  # a few pairs say little
        f"The chosen answer is the longer one in {longer:.0%} of the pairs, the shorter one in {shorter:.0%} (medians "
        f"{np.median(chosen):.0f} and {np.median(rejected):.0f} tokens).",
    )
    samples = summary["samples"]
    if samples["samples"]:
        cut_off = samples["cut_off"] / samples["samples"]
        yield cut_off <= 0.05, f"{cut_off:.1%} of the samples were cut off at max_new_tokens."
        yield from sample_remarks(samples)


def choose_examples(hops: Sequence[int], seed: int) -> list[int]:
    """Row numbers of a few random pairs, taken from the numbers of hops in turn."""
    numbers = list(range(len(hops)))
    random.Random(f"{seed}|report").shuffle(numbers)
    by_hops: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        by_hops[hops[number]].append(number)
    turns = ((turn, group, number) for group in by_hops for turn, number in enumerate(by_hops[group]))
    return [number for _, _, number in sorted(turns)[:EXAMPLES]]


def read_examples(args: BuildArguments, numbers: Iterable[int]) -> list[dict]:
    """The chosen pairs with their texts, the evidence marked."""
    wanted = set(numbers)
    rows = [row for i, row in enumerate(read_rows(Path(args.output), "select")) if i in wanted]
    metas = [json.loads(row["meta"]) for row in rows]
    ids = {meta["question_id"] for meta in metas}
    contexts = {row["id"]: row for row in read_rows(args.contexts_path, "synthesize") if row["id"] in ids}
    if missing := ids - contexts.keys():
        raise SolopoError(
            f"pair '{min(missing)}' of '{args.output}' is not in '{args.contexts_path}': run `solopo sample` and `solopo "
            "select` with the same YAML again."
        )
    examples = []
    for row, meta in zip(rows, metas):
        context, wording = contexts[meta["question_id"]], args.prompt_wording
        prompts = {view: mark_evidence(row[f"{view}_prompt"], context, view, wording) for view in VIEWS}
        examples.append(row | {"meta": meta, "prompts": prompts})
    return sorted(examples, key=lambda example: example["meta"]["hops"])


def mark_evidence(prompt: str, context: dict, view: str, wording: Wording) -> list[tuple[str, bool]]:
    """Cut a prompt into (text, whether it is evidence), in order."""
    spans = []
    for position, document in zip(context["meta"]["evidence_positions"][view], context["evidence"]):
        heading = wording.heading(position)
        text = wording.body(Document(document["title"], document["text"])).rstrip()
        start = prompt.find(heading + text)
        if start >= 0:
            start += len(heading)
            spans.append((start, start + len(text)))
    parts, done = [], 0
    for start, end in sorted(spans):
        parts += [(prompt[done:start], False), (prompt[start:end], True)]
        done = end
    return [*parts, (prompt[done:], False)]
