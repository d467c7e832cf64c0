"""The scores as Markdown, and what to know before reading them."""

from collections.abc import Iterator

from ..common.markdown import table
from ..common.pages import TITLES
from ..sampling.marks import remarks
from .statistics import BEYOND


TASKS_IN_WORDS = {
    "multi_doc": "the evidence spread over the context, the first hop's at the named depth",
    "single_doc": "the evidence side by side at the named depth",
}


def make_table(results: dict, summary: dict) -> str:
    """The scores and the differences by length, as Markdown.

    Args:
        summary: what grid.json holds.
    """
    lengths, models = results["lengths"], results["models"]
    header = ["model", *(f"{length:,}" for length in lengths), "all"]
    beyond = {name: beyond_lengths(results, name) for name in models}

    def row(name: str, groups: dict, sign: str) -> list[str]:
        cells = [
            BEYOND if length in beyond[name] else interval(groups["by_length"][str(length)], sign)
            for length in lengths
        ]
        return [name, *cells, interval(groups["all"], sign)]

    tables = [table(header, [row(name, model, "") for name, model in models.items()])]
    baseline = results["baseline"]
    if len(models) > 1:
        differences = ((name, model["difference"]) for name, model in models.items() if name != baseline)
        tables.append(table(header, [row(name, groups, "+") for name, groups in differences]))
    titles = [
        f"Right answers in % (sub-EM) with 95% intervals by context length in tokens: {results['questions']:,} questions "
        f"of {TITLES.get(results['source'], results['source'])} ({results['licence']}), {TASKS_IN_WORDS[results['task']]}.",
        f"Paired difference to {baseline} in points.",
    ]
    parts = [f"{title}\n\n{lines}" for title, lines in zip(titles, tables)]
    parts.append("\n".join(f"- {text}" for _, text in notes(results, summary)))
    return "\n\n".join(parts) + "\n"


def interval(group: dict | None, sign: str = "") -> str:
    """An estimate as text; `sign` is "+" where the sign is to be shown."""
    if group is None:
        return "-"
    return f"{group['score']:{sign}.1f} [{group['low']:{sign}.1f}, {group['high']:{sign}.1f}]"


def beyond_lengths(results: dict, name: str) -> list[int]:
    """The lengths beyond a model's window."""
    return sorted({cell["length"] for cell in results["models"][name]["cells"] if cell["state"] == BEYOND})


def notes(results: dict, summary: dict) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is as it should be, a sentence): what to know before reading the scores."""
    models, common = results["models"], results["common_lengths"]
    asked, missing = (sum(model[key] for model in models.values()) for key in ("asked", "missing"))
    if missing:
        lacking = ", ".join(f"{name} {model['missing']:,}" for name, model in models.items() if model["missing"])
        yield (
            False,
            f"{missing:,} of {asked:,} answers are missing ({lacking}): scores are of those that are there, and not to be "
            "compared over all lengths yet; the same command asks the rest.",
        )
    else:
        yield True, f"All {asked:,} prompts within the models' windows were answered."
    for name, model in models.items():
        if lengths := beyond_lengths(results, name):
            takes = "" if model["window"] is None else f" takes {model['window']:,} tokens, prompt and answer together"
            yield (
                False,
                f"{name}{takes}: {listed(lengths)} tokens {'is' if len(lengths) == 1 else 'are'} beyond its window and "
                "not scored.",
            )
    if not common:
        yield (
            False,
            "No length is within the window of every model, so there are no scores over all lengths: leave out models with "
            "small windows to get them.",
        )
    elif len(common) < len(results["lengths"]):
        yield (
            False,
            f"Scores over all lengths, by depth and by hops are of {listed(common)} tokens, which every model takes.",
        )
    for name, model in models.items():
        if model["unfinished"]:
            share = model["unfinished"] / (model["asked"] - model["missing"])
            yield (
                share <= 0.05,
                f"{name}: {model['unfinished']:,} answers ({share:.1%}) were cut off at max_new_tokens and judged as they "
                "stand.",
            )
        if model["stopped"]:
            yield False, f"{name} is not finished: {model['stopped'].rstrip('.')}."
        answered = model["asked"] - model["missing"]
        for is_good, text in remarks(model["problems"], model["end_marks"], answered, "and are judged as they stand"):
            yield is_good, f"{name}: {text}"
    for length, count in summary["short"].items():
        if count:
            yield (
                False,
                f"{count:,} contexts of {int(length):,} tokens stay well below that for want of documents: give a corpus "
                "of more.",
            )
    if other := summary.get("other_texts"):
        yield False, f"The wording of the prompts differs from that of the pairs under `exclude` ({', '.join(other)})."
    if results["questions"] < 100:
        yield (
            False,
            f"{results['questions']:,} questions are few: expect wide intervals, and do not trust narrow ones.",
        )


def listed(numbers: list[int]) -> str:
    """`1,000, 2,000 and 4,000`."""
    texts = [f"{number:,}" for number in numbers]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
