"""The page of an evaluation: one file that shows how well each model reads, where, and how sure that is."""

import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ..common.files import atomic_writer, read_json
from ..common.pages import load_template
from ..questions.sub_em import sub_em
from ..sampling.marks import Marks
from .arguments import EvalArguments
from .judging import read_answers, read_contexts_without_prompts
from .statistics import BEYOND
from .table import TASKS_IN_WORDS, beyond_lengths, interval, listed, notes


EXAMPLES_OF_A_KIND = 2
KINDS = ("some right, some wrong", "right", "wrong")


def write_page(args: EvalArguments, results: dict, marks: Mapping[str, Marks] = {}) -> None:
    """Write `report.html`, `curves.png` and `heatmaps.png` beside `results.json`; `marks` as for `score`."""
    from .plots import draw_curves, draw_differences, draw_scores, save_pictures  # matplotlib takes seconds

    grid = read_json(args.grid_path, "eval")
    models = results["models"]
    page = load_template(Path(__file__).with_name("page.html.jinja")).render(
        results=results,
        grid=grid,
        asked_with={name: read_json(args.record_path(name), "eval")["arguments"] for name in models},
        task=TASKS_IN_WORDS[results["task"]],
        notes=list(notes(results, grid)),
        verdict=verdict,
        tables=make_tables(results),
        curves=draw_curves(results),
        scores=draw_scores(results),
        differences=draw_differences(results) if len(models) > 1 else None,
        examples=choose_examples(args, results, marks),
        interval=interval,
        listed=listed,
    )
    save_pictures(results, args.folder)
    with atomic_writer(args.folder / "report.html") as file:
        file.write(page)


def verdict(difference: dict | None) -> str:
    """What an estimate says about a model beside the baseline, in words."""
    if difference is None:
        return ""
    if difference["low"] <= 0 <= difference["high"]:
        return "no clear difference"
    return "better" if difference["score"] > 0 else "worse"


def make_tables(results: dict) -> list[dict]:
    """The tables by length, depth and hops: a title, the names of the columns, and rows of texts. Empty ones are left out."""
    models, common = results["models"], results["common_lengths"]
    shared = "" if common == results["lengths"] else f" (contexts of {listed(common)} tokens)" if common else ""
    columns = {
        "by_length": ("By context length, tokens", lambda key: f"{int(key):,}"),
        "by_depth": (f"By evidence depth{shared}", lambda key: f"{100 * float(key):.3g}%"),
        "by_hops": (f"By hops{shared}", lambda key: f"{key} hop{'' if key == '1' else 's'}"),
    }
    tables = []
    for group, (title, label) in columns.items():
        if not any(estimate for model in models.values() for estimate in model[group].values()):
            continue
        keys = list(models[results["baseline"]][group])
        sections = {"": {name: model[group] for name, model in models.items()}}
        if len(models) > 1:
            others = {name: model["difference"][group] for name, model in models.items() if "difference" in model}
            sections["+"] = others
        rows = []
        for sign, section in sections.items():
            for name, groups in section.items():
                beyond = [group == "by_length" and int(key) in beyond_lengths(results, name) for key in keys]
                texts = [BEYOND if out else interval(groups[key], sign) for key, out in zip(keys, beyond)]
                rows.append({"name": name, "is_difference": bool(sign), "texts": texts})
        tables.append({"title": title, "columns": [label(key) for key in keys], "rows": rows})
    return tables


def choose_examples(args: EvalArguments, results: dict, marks: Mapping[str, Marks] = {}) -> list[dict]:
    """A few contexts with every model's answer: some where models differ, some all right, some all wrong."""
    contexts = {row["id"]: row for row in read_contexts_without_prompts(args.contexts_path)}
    markers = args.prompt_wording.markers
    right: dict[str, dict[str, bool]] = defaultdict(dict)  # by context, by model
    for name in results["models"]:
        for row in read_answers(args.answers_path(name)):
            if row["id"] in contexts:
                answer = marks.get(name, Marks()).read(row["samples"][0]["text"]).answer
                right[row["id"]][name] = sub_em(answer, contexts[row["id"]]["answers"], markers)
    most = max(map(len, right.values()), default=0)
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for id, judged in right.items():
        if len(judged) == most:
            kind = KINDS[0] if len(set(judged.values())) == 2 else KINDS[1] if all(judged.values()) else KINDS[2]
            by_kind[kind].append(id)
    rng = random.Random(f"{args.seed}|examples")
    chosen: dict[str, str] = {}  # context by question, to show each question once
    for ids in by_kind.values():
        end = len(chosen) + EXAMPLES_OF_A_KIND
        for id in rng.sample(sorted(ids), len(ids)):
            if len(chosen) < end:
                chosen.setdefault(contexts[id]["question_id"], id)
    examples = {id: contexts[id] | {"models": {}} for id in chosen.values()}
    for name in results["models"]:
        for row in read_answers(args.answers_path(name)):
            if row["id"] in examples:
                sample = row["samples"][0]
                problem = marks.get(name, Marks()).read(sample["text"], sample["finish"]).problem
                examples[row["id"]]["models"][name] = sample | {"is_right": right[row["id"]][name], "problem": problem}
    return list(examples.values())
