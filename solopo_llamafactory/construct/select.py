"""`solopo select`: a right and a wrong answer for each question, and the split into training and held-out pairs."""

import dataclasses
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, cycle, islice

import regex

from ..common.counts import reasons
from ..common.errors import SolopoError
from ..common.files import atomic_writer, read_json, read_rows, write_json, write_line
from ..questions.rendering import Renderer
from ..questions.sub_em import MARKERS, mentions_after_marker, sub_em
from ..questions.text import normalize
from ..sampling.answer_file import read_samples
from ..sampling.base import Sample
from ..sampling.marks import CUT_OFF, NO_ANSWER, Marks, remarks
from .arguments import BuildArguments
from .synthesize import read_short_contexts


@dataclass(frozen=True)
class Pair:
    """What is chosen and rejected for one question, by the judgement of sub-EM."""

    chosen: str
    rejected: str


@dataclass
class Judged:
    """One question's samples: the usable right and wrong ones, and all counts."""

    right: list[Sample]
    wrong: list[Sample]
    num_right: int
    num_samples: int
    cut_off: int
    unclear: int
    end_marks: int
    unusable: Counter[str]  # by `Reading.problem`, those cut off aside

    @property
    def problem(self) -> str | None:
        """Why no pair can be made."""
        if sum(self.unusable[reason] for reason in NO_ANSWER) == self.num_samples:
            return "no sample with an answer"
        if not self.right:
            unusable = "unusable" if self.unusable else "cut off"
            return f"correct samples all {unusable}" if self.num_right else "no correct sample"
        return None if self.wrong else "no incorrect sample"


def judge(
    samples: Sequence[Sample],
    answers: Sequence[str],
    marks: Marks = Marks(),
    markers: regex.Pattern | None = MARKERS,
) -> Judged:
    """Sort samples by sub-EM of what follows their thoughts; `markers` find the final answer in it.

    Those cut off, without an answer, with a control token, unclear or seen before enter no pair.
    """
    judged = Judged([], [], 0, len(samples), 0, 0, 0, Counter())
    seen = set()
    for sample in samples:
        reading = marks.read(sample.text, sample.finish)
        is_right = sub_em(reading.answer, answers, markers)
        unclear = not is_right and mentions_after_marker(reading.answer, answers, markers)
        judged.num_right += is_right
        judged.unclear += unclear
        judged.cut_off += sample.finish == "length"
        judged.end_marks += reading.end_mark
        judged.unusable.update([reading.problem] if reading.problem not in (None, CUT_OFF) else [])
        if not (reading.problem or unclear or reading.text in seen):
            seen.add(reading.text)
            (judged.right if is_right else judged.wrong).append(dataclasses.replace(sample, text=reading.text))
    return judged


def count_pairs(
    row: dict,
    samples: Sequence[Sample],
    marks: Marks = Marks(),
    markers: regex.Pattern | None = MARKERS,
    most: int = 1,
) -> int:
    """How many pairs, `most` at most, a row of contexts.jsonl with these samples gives."""
    judged = judge(samples, row["answers"], marks, markers)
    return 0 if judged.problem else min(most, max(len(judged.right), len(judged.wrong)))


def pick(samples: Sequence[Sample], policy: str, rng: random.Random) -> str:
    """One of the samples' texts."""
    if policy == "random":
        return rng.choice(samples).text
    return min(samples, key=lambda sample: (len(sample.text), sample.text)).text


def select(args: BuildArguments, renderer: Renderer | None = None, marks: Marks = Marks()) -> dict:
    """Write the training and the held-out pairs and `selection.json`, and return what the latter holds.

    Args:
        renderer: counts the answers' tokens; made here where it is not given.
        marks: of thoughts, ends and control tokens in samples.

    Raises:
        SolopoError: when no question has both a right and a wrong sample.
    """
    synthesis = read_json(args.synthesis_path, "synthesize")
    questions = {row["id"]: row for row in read_short_contexts(args)}
    pairs, counts = _make_pairs(args, questions, marks)
    wanted = args.pairs_wanted
    usable = _enough([id for id in questions if id in pairs], pairs, wanted)
    if not usable:
        problems = sum((Counter(hops) for hops in counts["hops"].values()), Counter())
        asked = problems.pop("questions", 0)
        found = [text.rstrip(".") for is_well, text in sample_remarks(counts) if not is_well]
        if counts["cut_off"]:
            found.append(f"{counts['cut_off']} of {counts['samples']} samples cut off: raise max_new_tokens")
        if problems["no incorrect sample"]:
            found.append(
                "where all answers are right, raise temperature or n, or give harder questions or longer contexts"
            )
        if problems["no correct sample"]:
            found.append("where none is, sample with a model that answers some of the questions, or raise n")
        raise SolopoError(
            f"no pair could be made from the samples of {asked} questions ({reasons(problems) or 'none'}); "
            f"{'; '.join(found)}."
        )
    evidence = {id: evidence_keys(questions[id]) for id in usable}
    # Of too few, the same share is held out.
    num_held_out = args.num_held_out * min(sum(len(pairs[id]) for id in usable), wanted) // wanted
    held_out = set(choose_held_out(evidence, num_held_out, random.Random(f"{args.seed}|held out")))
    train = _enough([id for id in usable if id not in held_out], pairs, args.num_examples)
    in_training = set().union(*(evidence[id] for id in train))
    taken = _taken(pairs, train, args.num_examples) | {id: pairs[id][:1] for id in held_out}
    counts |= {
        "contexts": synthesis["arguments"],  # which ones the pairs are of
        "train": sum(len(taken[id]) for id in train),
        "held_out": len(held_out),
        "sharing_evidence": sum(not evidence[id].isdisjoint(in_training) for id in held_out),
    }
    _remove_old_held_out(args, held_out)
    _write_pairs(args, taken, held_out, renderer or Renderer(args.tokenizer, args.template))
    write_json(args.selection_path, counts)
    return counts


def _enough(ids: Sequence[str], pairs: dict[str, list[Pair]], wanted: int) -> list[str]:
    """The first questions, as many as give the wanted pairs."""
    before = accumulate((len(pairs[id]) for id in ids), initial=0)
    return [id for id, count in zip(ids, before) if count < wanted]


def _taken(pairs: dict[str, list[Pair]], ids: Sequence[str], most: int) -> dict[str, list[Pair]]:
    """The pairs of these questions, `most` in all."""
    before = accumulate((len(pairs[id]) for id in ids), initial=0)
    return {id: pairs[id][: most - count] for id, count in zip(ids, before)}


def sample_remarks(counts: dict) -> Iterator[tuple[bool, str]]:
    """Yields what the samples hold beside answers, from the counts of `selection.json`: (whether it is well, a sentence)."""
    yield from remarks(counts["unusable"], counts["end_marks"], counts["samples"], "and enter no pair")


def evidence_keys(row: dict) -> set[str]:
    """The evidence paragraphs, told apart as distractors are."""
    return {normalize(document["text"]) for document in row["evidence"]}


def choose_held_out(evidence: dict[str, set[str]], count: int, rng: random.Random) -> list[str]:
    """Pick questions that share no evidence with the others, as far as there are such.

    Questions that share evidence, directly or through others, go together: whole groups first, the smallest first, then
    single questions of the groups that do not fit.
    """
    groups = list(_groups_sharing_evidence(evidence))
    rng.shuffle(groups)
    picked, rest = [], []
    for group in sorted(groups, key=len):
        whole = len(picked) + len(group) <= count and len(picked) + len(group) < len(evidence)
        (picked if whole else rest).extend(group)
    # At least one question is left for training.
    missing = min(count, len(evidence) - 1) - len(picked)
    return picked + rest[: max(0, missing)]


def _groups_sharing_evidence(evidence: dict[str, set[str]]) -> Iterable[list[str]]:
    """Connected components of the questions, by shared paragraphs."""
    owners: dict[str, list[str]] = defaultdict(list)
    for id, keys in evidence.items():
        for key in keys:
            owners[key].append(id)
    seen: set[str] = set()
    for start in evidence:
        if start in seen:
            continue
        seen.add(start)
        group = [start]
        for id in group:  # grows while it is read
            for neighbour in (other for key in sorted(evidence[id]) for other in owners[key]):
                if neighbour not in seen:
                    seen.add(neighbour)
                    group.append(neighbour)
        yield group


def _make_pairs(args: BuildArguments, questions: dict[str, dict], marks: Marks) -> tuple[dict[str, list[Pair]], dict]:
    """The pairs of each question that has any, and the counts of `selection.json`."""
    pairs: dict[str, list[Pair]] = {}
    by_hops: dict[str, Counter[str]] = defaultdict(Counter)
    markers = args.prompt_wording.markers
    right, total, unusable, cut_off, unclear, end_marks = Counter(), Counter(), Counter(), 0, 0, 0
    for id, all_samples in read_samples(args, args.samples_path, questions):
        question = questions[id]
        judged = judge(all_samples, question["answers"], marks, markers)
        hops = str(question["hops"])
        by_hops[hops].update({"questions": 1, judged.problem or "kept": 1})
        right[hops] += judged.num_right
        total[hops] += judged.num_samples
        cut_off += judged.cut_off
        unclear += judged.unclear
        end_marks += judged.end_marks
        unusable += judged.unusable
        if judged.problem is None:
            rng = random.Random(f"{args.seed}|{id}|select")
            pairs[id] = _pairs_of(judged, args, rng)
    counts = {
        "hops": {hops: dict(sorted(by_hops[hops].items())) for hops in sorted(by_hops)},
        "sub_em": {hops: round(right[hops] / total[hops], 4) for hops in sorted(total) if total[hops]},
        "samples": total.total(),
        "cut_off": cut_off,
        "unclear": unclear,
        "end_marks": end_marks,
        "unusable": dict(unusable.most_common()),
    }
    return pairs, counts


def _pairs_of(judged: Judged, args: BuildArguments, rng: random.Random) -> list[Pair]:
    """Up to `pairs_per_question` pairs, the best first. Where right or wrong answers run out, they begin anew."""
    count = min(args.pairs_per_question, max(len(judged.right), len(judged.wrong)))
    first = [pick(samples, args.policy, rng) for samples in (judged.right, judged.wrong)]
    sides = []
    for text, samples in zip(first, (judged.right, judged.wrong)):
        texts, rest = [text], [sample for sample in samples if sample.text != text]
        while rest and len(texts) < count:
            texts.append(pick(rest, args.policy, rng))
            rest = [sample for sample in rest if sample.text != texts[-1]]
        sides.append(texts)
    return [Pair(*pair) for pair in islice(zip(*map(cycle, sides)), count)]


def _write_pairs(args: BuildArguments, pairs: dict[str, list[Pair]], held_out: set[str], renderer: Renderer) -> None:
    """Write both files in the order of the contexts."""
    texts = [text for each in pairs.values() for pair in each for text in (pair.chosen, pair.rejected)]
    answer_tokens = dict(zip(texts, renderer.piece_lengths(texts)))
    with ExitStack() as files:
        train_file = files.enter_context(atomic_writer(args.output))
        held_out_file = files.enter_context(atomic_writer(args.held_out_path)) if held_out else None
        for row in read_rows(args.contexts_path, "synthesize"):
            for number, pair in enumerate(pairs.get(row["id"], ()), start=1):
                lengths = [answer_tokens[text] for text in (pair.chosen, pair.rejected)]
                example = {
                    "id": row["id"] if number == 1 else f"{row['id']}#{number}",
                    "short_prompt": row["short_prompt"],
                    "long_prompt": row["long_prompt"],
                    "chosen": pair.chosen,
                    "rejected": pair.rejected,
                    "meta": json.dumps(make_meta(args, row, lengths), ensure_ascii=False),
                }
                write_line(held_out_file if row["id"] in held_out else train_file, example)


def _remove_old_held_out(args: BuildArguments, held_out: set[str]) -> None:
    """An earlier run's held-out pairs would be taken for this one's. No other file is touched."""
    earlier = args.selection_path
    if not held_out and earlier.is_file() and read_json(earlier, "select").get("held_out"):
        args.held_out_path.unlink(missing_ok=True)


def make_meta(args: BuildArguments, row: dict, answer_tokens: Sequence[int]) -> dict:
    """What a reader of the pairs may want to know about an example."""
    return {
        "question": row["question"],
        "question_id": row["id"],
        "answers": row["answers"],
        "hops": row["hops"],
        "evidence": [document["title"] for document in row["evidence"]],
        **row["meta"],
        "infer_backend": args.infer_backend,
        "model": args.model_name_or_path,
        "policy": args.policy,
        "remove_thoughts": args.remove_thoughts,
        "answer_tokens": dict(zip(("chosen", "rejected"), answer_tokens)),
    }
