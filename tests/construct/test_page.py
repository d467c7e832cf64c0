"""The report: the page shows what the files hold, safely, and stands alone."""

import json
import random
import re

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import write_json
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.page import choose_examples, mark_evidence, spread, write_report
from solopo_llamafactory.questions.sources import Document
from solopo_llamafactory.questions.wording import WORDINGS
from tests.helpers.html_page import Page
from tests.helpers.questions import write_lines


COT = WORDINGS["cot"]
SCRIPT = "<script>alert('x')</script> & <b>bold</b> {{ 7 * 7 }}"


def build_files(folder, num_pairs: int = 40, num_held_out: int = 8, **changes) -> BuildArguments:
    """The files of all steps, made up: a third of the questions gives no pair."""
    rng = random.Random(0)
    args = BuildArguments(
        **{
            "source": "musique",
            "input": "questions.jsonl",
            "output": str(folder / "pairs.jsonl"),
            "tokenizer": "Qwen/Qwen2.5-7B-Instruct",
            "template": "qwen",
            "num_examples": num_pairs,
            "num_held_out": num_held_out,
            **changes,
        }
    )
    usable = num_pairs + num_held_out
    contexts = [make_context(rng, i, args) for i in range(usable + usable // 2)]
    args.folder.mkdir(parents=True)
    write_lines(args.contexts_path, *contexts)
    samples = [{"text": "The answer is Esk.", "finish": "stop"}] * 2
    write_lines(args.samples_path, *({"id": row["id"], "settings": "s", "samples": samples} for row in contexts))
    pairs = [make_pair(rng, row) for row in contexts[:usable]]
    write_lines(folder / "pairs.jsonl", *pairs[:num_pairs])
    if num_held_out:
        write_lines(args.held_out_path, *pairs[num_pairs:])
    skipped = {"evidence alone over short_tokens": 7, "unanswerable": 5}
    shortfalls = {"short": 0, "long": 3}
    counts = {"questions": len(contexts) + 12 + 100, "written": len(contexts), "skipped": skipped}
    shaping = {"num_contexts": len(contexts), "input_file": [1, 2]}
    write_json(args.folder / "synthesis.json", {"arguments": shaping, **counts, "shortfalls": shortfalls})
    selection = make_selection(contexts, pairs, num_pairs) | {"contexts": shaping, "unclear": 0}
    write_json(args.folder / "selection.json", selection)
    return args


def make_context(rng: random.Random, number: int, args: BuildArguments) -> dict:
    hops = rng.choices((2, 3, 4), (6, 3, 1))[0]
    evidence = [Document(f"Title {number}.{hop}", f"Fact {number}.{hop}: {SCRIPT}") for hop in range(hops)]
    prompts, positions, documents = {}, {}, {"short": rng.randint(6, 9), "long": rng.randint(48, 60)}
    for view, count in documents.items():
        context = [Document(f"Other {i}", f"Something else, {i}.") for i in range(count)]
        places = rng.sample(range(count), hops)
        for place, document in zip(places, evidence):
            context[place] = document
        prompts[f"{view}_prompt"] = COT.prompt(context, f"Where was {number} born?")
        positions[view] = [place + 1 for place in places]
    depths = {view: [(p - 1) / (documents[view] - 1) for p in places] for view, places in positions.items()}
    budget = args.long_budgets[number % len(args.long_budgets)]
    tokens = {"short": (args.short_tokens or 400) - rng.randint(0, 12), "long": budget - rng.randint(0, 12)}
    return {
        "id": f"{hops}hop__{number}",
        "question": f"Where was {number} born?",
        "answers": ["Esk", "<i>Old</i> Esk"],
        "hops": hops,
        **prompts,
        "evidence": [{"title": document.title, "text": document.text} for document in evidence],
        "meta": {
            "source": "musique",
            "licence": "CC BY 4.0",
            "template": args.template,
            "seed": args.seed,
            "budgets": {"short": args.short_tokens, "long": budget},
            "tokens": tokens,
            "documents": documents,
            "evidence_positions": positions,
            "evidence_depths": depths,
        },
    }


def make_pair(rng: random.Random, context: dict) -> dict:
    meta = {key: context[key] for key in ("question", "answers", "hops")} | context["meta"]
    meta["evidence"] = [document["title"] for document in context["evidence"]]
    meta |= {
        "question_id": context["id"],
        "policy": "random",
        "infer_backend": "huggingface",
        "model": "Qwen/Qwen2.5-7B-Instruct",
    }
    meta["answer_tokens"] = {side: int(rng.lognormvariate(4.4, 0.45)) for side in ("chosen", "rejected")}
    return {
        **{key: context[key] for key in ("id", "short_prompt", "long_prompt")},
        "chosen": "By the first document ... The answer is Esk.",
        "rejected": f"{SCRIPT} The answer is Orm.",
        "meta": json.dumps(meta),
    }


def make_selection(contexts: list[dict], pairs: list[dict], num_pairs: int) -> dict:
    hops: dict[str, dict[str, int]] = {}
    kept = {pair["id"] for pair in pairs}
    for i, row in enumerate(contexts):
        group = hops.setdefault(str(row["hops"]), {"questions": 0})
        outcome = "kept" if row["id"] in kept else ("no correct sample", "no incorrect sample")[i % 2]
        group["questions"] += 1
        group[outcome] = group.get(outcome, 0) + 1
    return {
        "hops": dict(sorted(hops.items())),
        "sub_em": {name: round(0.9 - 0.15 * int(name), 4) for name in sorted(hops)},
        "samples": 2 * len(contexts),
        "cut_off": 1,
        "train": num_pairs,
        "held_out": len(pairs) - num_pairs,
        "sharing_evidence": 0,
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    args = build_files(tmp_path_factory.mktemp("report"))
    write_report(args)
    return args, json.loads(args.summary_path.read_text()), Page(args.report_path)


def test_counts_are_those_of_the_files(built):
    args, summary, page = built
    assert summary["pairs"] == {"train": 40, "held_out": 8}
    assert summary["questions"] == 72 + 112 and summary["contexts"] == summary["sampled"] == 72
    dropped = {"evidence alone over short_tokens": 7, "unanswerable": 5}
    assert summary["synthesis"] == {"of": 184, "kept": 72, "dropped": dropped, "not needed": 100}
    selection = summary["selection"]
    assert selection["kept"] == 48 and sum(selection["dropped"].values()) == 24
    assert (selection["not sampled"], selection["not needed"]) == (0, 0)
    metas = [json.loads(json.loads(line)["meta"]) for line in open(args.output)]
    lengths = [meta["tokens"]["long"] for meta in metas]
    quantiles = summary["quantiles"]["train"]["long_tokens"]
    assert (quantiles["min"], quantiles["max"]) == (min(lengths), max(lengths))
    assert sum(summary["pairs_by_hops"]["train"].values()) == 40
    assert summary["sources"] == [{"source": "musique", "licence": "CC BY 4.0", "pairs": 48}]
    assert summary["arguments"]["output"] == args.output
    assert summary["arguments"]["num_contexts"] == 72 and "input_file" not in summary["arguments"]
    for text in ("40", "184", "evidence alone over short_tokens", "no correct sample", "3 long contexts ran out"):
        assert text in page.source


def test_texts_of_documents_and_answers_stay_text(built):
    _, _, page = built
    assert not {"script", "i"} & set(page.tags)
    shown = "".join(page.text)
    assert SCRIPT in shown and "<i>Old</i> Esk" in shown


def test_exactly_the_evidence_is_marked(built):
    args, _, page = built
    contexts = [json.loads(line) for line in open(args.contexts_path)]
    evidence = {f"{doc['title']}\n{doc['text']}" for row in contexts for doc in row["evidence"]}
    marked = page.marked[1:]  # the first is the legend
    assert set(marked) <= evidence
    shown = [row for row in contexts if f"<code>{row['id']}</code>" in page.source]
    assert len(shown) == 5
    assert len(marked) == 2 * sum(row["hops"] for row in shown)  # in the short and in the long prompt


def test_a_document_that_quotes_the_evidence_is_not_marked():
    evidence = Document("Esk", "A town.")
    prompt = COT.prompt([Document("Copy", "Esk\nA town."), evidence, Document("Esk", "A town. And more.")], "Where?")
    context = {
        "evidence": [{"title": "Esk", "text": "A town."}],
        "meta": {"evidence_positions": {"short": [2]}},
    }
    parts = mark_evidence(prompt, context, "short", COT)
    assert "".join(text for text, _ in parts) == prompt
    assert [text for text, is_evidence in parts if is_evidence] == ["Esk\nA town."]
    assert parts[0][0].endswith("Document 2:\n")


def test_the_page_needs_nothing_else(built):
    _, _, page = built
    outside = [link for link in page.links if not link[1].startswith("#")]
    assert outside == [("a", "https://creativecommons.org/licenses/by/4.0/")]
    assert not {"link", "iframe", "img"} & set(page.tags)
    assert "@import" not in page.source and page.tags.count("svg") == 6
    assert len(page.ids) == len(set(page.ids))
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page.source))
    assert references <= set(page.ids)


def test_same_files_same_bytes(built):
    args, _, page = built
    before = args.summary_path.read_bytes()
    write_report(args)
    assert args.report_path.read_text(encoding="utf-8") == page.source
    assert args.summary_path.read_bytes() == before


@pytest.mark.parametrize("changes", [{"short_tokens": 0}, {"long_tokens": [4000, 8000]}])
def test_one_pair(tmp_path, changes):
    args = build_files(tmp_path / "one", 1, 0, **changes)
    write_report(args)
    page = Page(args.report_path)
    assert "Held-out" not in "".join(page.text) and page.tags.count("svg") == 6


@pytest.mark.parametrize(
    "name, step",
    [
        ("pairs.build/synthesis.json", "synthesize"),
        ("pairs.build/contexts.jsonl", "synthesize"),
        ("pairs.build/selection.json", "select"),
        ("pairs.jsonl", "select"),
    ],
)
def test_a_missing_file_names_the_step(tmp_path, name, step):
    args = build_files(tmp_path / "data", 3, 0)
    (tmp_path / "data" / name).unlink()
    with pytest.raises(SolopoError, match=f"{name}.*solopo {step}"):
        write_report(args)
    assert not args.report_path.exists() and not args.summary_path.exists()


def test_pairs_of_an_earlier_synthesis_are_refused(tmp_path):
    args = build_files(tmp_path / "data", 3, 0)
    path = args.folder / "synthesis.json"
    synthesis = json.loads(path.read_text())
    path.write_text(json.dumps({**synthesis, "arguments": {**synthesis["arguments"], "long_tokens": 9}}))
    with pytest.raises(SolopoError, match="are of other contexts than .* run `solopo sample` and `solopo select`"):
        write_report(args)


def test_pairs_of_other_contexts_are_refused(tmp_path):
    args = build_files(tmp_path / "data", 3, 0)
    write_lines(args.contexts_path, make_context(random.Random(1), 99, args))
    with pytest.raises(SolopoError, match="is not in .*contexts.jsonl.*solopo select"):
        write_report(args)


def test_pairs_of_an_earlier_version_are_refused(tmp_path):
    args = build_files(tmp_path / "data", 1, 0)
    path = tmp_path / "data" / "pairs.jsonl"
    path.write_text(path.read_text().replace("answer_tokens", "other"))
    with pytest.raises(SolopoError, match="answer_tokens.*solopo select"):
        write_report(args)


def test_examples_have_different_hops_and_follow_the_seed():
    hops = [2] * 90 + [3] * 9 + [4]
    chosen = choose_examples(hops, 42)
    assert len(chosen) == 5 and sorted({hops[i] for i in chosen}) == [2, 3, 4]
    assert chosen == choose_examples(hops, 42) != choose_examples(hops, 43)
    assert choose_examples([2], 42) == [0]


@pytest.mark.parametrize("documents", [1, 3, 8, 10, 57])
def test_evidence_at_all_places_is_even(documents):
    total = sum(spread(position, documents) for position in range(1, documents + 1))
    assert total == pytest.approx([documents / 10] * 10)
    assert spread(1, documents).sum() == pytest.approx(1)


def test_leaning_evidence_is_reported(tmp_path):
    args = build_files(tmp_path / "data", 40, 0)
    path = tmp_path / "data" / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        meta = json.loads(row["meta"])
        meta["evidence_positions"]["long"] = list(range(1, meta["hops"] + 1))
        row["meta"] = json.dumps(meta)
    write_lines(path, *rows)
    write_report(args)
    text = args.report_path.read_text()
    assert "is not evenly spread over the long contexts" in text
    assert "lies evenly over the short contexts" in text
