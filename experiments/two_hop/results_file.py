"""From the scores of all seeds to a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from solopo_llamafactory.common.files import atomic_path, atomic_writer, write_json
from solopo_llamafactory.common.markdown import table

from .methods import Method


def best_learning_rate(method: Method, dev: Sequence[dict]) -> float:
    """The candidate with the highest mean accuracy over seeds and over the short and the training length.

    Args:
        dev: results.json of the development questions, one a seed.
    """

    def accuracy(learning_rate: float) -> float:
        scores = [result["models"][method.folder(learning_rate)]["by_length"] for result in dev]
        return fmean(group["score"] for by_length in scores for group in by_length.values())

    return max(method.learning_rates, key=accuracy)


def make_row(name: str, test: Sequence[dict], model_name: str, lengths: Sequence[int]) -> dict:
    """Accuracy of a method at each length: mean, range over seeds, and a 95% interval of the mean.

    The interval is that of the questions (bootstrap, by seed); how much seeds differ is what the range shows.

    Args:
        test: results.json of the test questions, one a seed.
        model_name: the method's name in each of them.
    """
    row = {"name": name, "lengths": {}}
    for length in lengths:
        groups = [result["models"][model_name]["by_length"][str(length)] for result in test]
        scores = [group["score"] for group in groups]
        half = sum(((group["high"] - group["low"]) / 2) ** 2 for group in groups) ** 0.5 / len(groups)
        row["lengths"][str(length)] = {
            "mean": fmean(scores),
            "min": min(scores),
            "max": max(scores),
            "low": max(0.0, fmean(scores) - half),
            "high": min(100.0, fmean(scores) + half),
            "seeds": [{key: group[key] for key in ("score", "low", "high")} for group in groups],
        }
    return row


def tokens_per_pair(method: Method, tokens: dict[str, float]) -> tuple[float, float]:
    """Tokens of a pair in separate rows, and in our packed row, which has each prompt once."""
    short, long = tokens["short"], tokens["long"]
    chosen, rejected = tokens["chosen"], tokens["rejected"]
    if method.arguments["stage"] == "sft":
        return long + chosen, long + chosen
    view = method.arguments.get("solopo_view")
    if view is not None:
        return 2 * tokens[view] + chosen + rejected, tokens[view] + chosen + rejected
    return 2 * short + chosen + rejected + long + chosen, short + chosen + rejected + long + chosen


def markdown(results: dict) -> str:
    """The table of means, and one of every seed at the short prompt's and the training length."""
    lengths = results["lengths"]
    header = ["", "learning rate", *(f"{length}" for length in lengths), "tokens a pair", "packed", "s a step"]
    rows = []
    for row in results["rows"]:
        cells = [row["name"], f"{row['learning_rate']:g}" if "learning_rate" in row else ""]
        for length in lengths:
            group = row["lengths"][str(length)]
            cells.append(
                f"{group['mean']:.1f} [{group['low']:.1f}, {group['high']:.1f}] ({group['min']:.0f} to {group['max']:.0f})"
            )
        cells += [f"{row['tokens']:,.0f}", f"{row['packed_tokens']:,.0f}"] if "tokens" in row else ["", ""]
        cells.append(f"{row['seconds']:.2f}" if "seconds" in row else "")
        rows.append(cells)
    shown = (lengths[0], results["long_tokens"])
    seeds = results["seeds"].split(",")
    seeds_header = ["", *(f"seed {seed}: {length}" for seed in seeds for length in shown)]
    by_seed = []
    for row in results["rows"]:
        groups = [row["lengths"][str(length)]["seeds"][i] for i in range(len(seeds)) for length in shown]
        by_seed.append([row["name"], *(f"{one['score']:.1f} [{one['low']:.1f}, {one['high']:.1f}]" for one in groups)])
    legend = "Right answers in %: mean over seeds [95% interval over questions] (range over seeds)."
    return f"{legend}\n\n{table(header, rows)}\n\nBy seed:\n\n{table(seeds_header, by_seed)}\n"


def draw(results: dict, path: Path) -> None:
    """Accuracy over length: a panel an objective, with the intervals."""
    from matplotlib.figure import Figure

    objectives = results["objectives"]
    figure = Figure(figsize=(4.6 * len(objectives), 3.8), layout="constrained")
    styles = {
        "base": ("#8a8f98", ":"),
        "short": ("#d95f02", "--"),
        "long": ("#756bb1", "-."),
        "SoLo": ("#3182bd", "-"),
    }
    for axes, objective in zip(figure.subplots(1, len(objectives), sharey=True, squeeze=False)[0], objectives):
        for kind, (color, line) in styles.items():
            name = kind if kind == "base" else f"{kind}-{objective}"
            row = next((row for row in results["rows"] if row["name"] == name), None)
            if row is None:
                continue
            groups = list(row["lengths"].values())
            means = [group["mean"] for group in groups]
            errors = [
                [group["mean"] - group["low"] for group in groups],
                [group["high"] - group["mean"] for group in groups],
            ]
            axes.errorbar(
                results["lengths"], means, errors, label=name, color=color, linestyle=line, marker="o", capsize=3
            )
        axes.axvline(results["long_tokens"], color="#8a8f98", linewidth=0.8)
        axes.annotate(" training", (results["long_tokens"], 1), color="#5c636b", fontsize=8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(results["lengths"], [str(length) for length in results["lengths"]])
        axes.set(xlabel="tokens of the prompt", ylim=(0, 102))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower left")
    figure.axes[0].set_ylabel("right answers (%)")
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, dpi=90)


def write(results: dict, folder: Path) -> None:
    """results.json, table.md and accuracy.png."""
    write_json(folder / "results.json", results)
    with atomic_writer(folder / "table.md") as file:
        file.write(markdown(results))
    draw(results, folder / "accuracy.png")
