"""`solopo compare`: results of lm-evaluation-harness beside the figures that the SoLoPO paper publishes."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import SolopoError
from ..common.files import atomic_writer
from ..common.markdown import table
from .paper_figures import PAPER, PAPER_COLUMNS, PAPER_NOTES


# Column: {task of lm-evaluation-harness: the metrics that enter}. None: RULER's metrics, which are lengths in tokens.
# fmt: off
AVERAGES: dict[str, dict[str, tuple[str, ...] | None]] = {
    "LongBench QA": dict.fromkeys(
        ("longbench_narrativeqa", "longbench_qasper", "longbench_multifieldqa_en", "longbench_hotpotqa",
         "longbench_2wikimqa", "longbench_musique"), ("score",)),
    "RULER QA": dict.fromkeys(("ruler_qa_squad", "ruler_qa_hotpot")),
    "RULER NIAH": dict.fromkeys(
        ("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
         "niah_multivalue", "niah_multiquery")),
    "LongBench v2": {"longbench2": ("acc",)},
    "Open LLM Leaderboard": {
        "leaderboard_ifeval": ("inst_level_strict_acc", "prompt_level_strict_acc"),
        "leaderboard_bbh": ("acc_norm",),
        "leaderboard_math_hard": ("exact_match",),
        "leaderboard_gpqa": ("acc_norm",),
        "leaderboard_musr": ("acc_norm",),
        "leaderboard_mmlu_pro": ("acc",),
    },
}
# fmt: on
COLUMN_OF = {task: column for column, tasks in AVERAGES.items() for task in tasks}
GROUPED = ("longbench2_", "leaderboard")  # their groups of the table above stand for them

COLUMN_NOTES = {
    "LongBench QA": "LongBench QA: mean of F1 over the English tasks of single- and multi-document QA.",
    "RULER QA": "RULER QA: mean over ruler_qa_squad and ruler_qa_hotpot and the lengths named in the column's head.",
    "RULER NIAH": "RULER NIAH: mean over the niah_* tasks and the lengths named in the column's head.",
    "NIAH-Plus": "NIAH-Plus is the paper's own benchmark and no task of the harness; RULER's niah_* is another one, and "
    "`solopo eval` measures what NIAH-Plus is after.",
    "LongBench v2": "LongBench v2: accuracy of the likeliest of the four letters, over all questions.",
    "Open LLM Leaderboard": "Open LLM Leaderboard: mean of the six raw scores (IFEval: of its two strict ones). The "
    "public board rescales each between chance and 100 first.",
}


@dataclass
class Score:
    """One metric of one task, in percent where the metric is a share."""

    value: float
    stderr: float | None
    settings: dict[str, Any]


@dataclass
class Results:
    """All that one model's result files hold. A cell is a task and a metric with its filter, as the harness names it."""

    name: str
    scores: dict[tuple[str, str], Score] = field(default_factory=dict)

    def cells(self, column: str) -> set[tuple[str, str]]:
        """The cells that enter one average."""
        return {(task, metric) for task, metric in self.scores if enters(column, task, metric)}


def enters(column: str, task: str, metric: str) -> bool:
    """Whether a metric of a task is part of a column's average."""
    if task not in AVERAGES[column]:
        return False
    wanted = AVERAGES[column][task]
    return metric.isdigit() if wanted is None else metric in wanted


def compare(models: dict[str, str], output: str | None = None) -> str:
    """The Markdown page for models given as {name: folder of lm_eval's --output_path}; written to `output` as well.

    Raises:
        SolopoError: for a folder without results, with those of several models, or with a broken file.
    """
    page = render([read_results(name, Path(folder)) for name, folder in models.items()])
    if output:
        with atomic_writer(output) as file:
            file.write(page)
    return page


def read_results(name: str, folder: Path) -> Results:
    """Reads every results_*.json below a folder; of a metric that several files hold, the newest counts."""
    if not folder.is_dir():
        raise SolopoError(f"'{folder}' of {name} is not a folder: give what was --output_path of lm_eval.")
    files = sorted(folder.rglob("results_*.json"), key=lambda path: path.name)  # the name ends in the date
    if not files:
        raise SolopoError(
            f"'{folder}' of {name} holds no results_*.json: run lm_eval with --output_path {folder} first."
        )
    contents = [read_file(path) for path in files]
    evaluated = sorted({str(content.get("model_name")) for content in contents})
    if len(evaluated) > 1:
        raise SolopoError(
            f"'{folder}' of {name} holds results of several models ({', '.join(evaluated)}): give the folder of one."
        )
    results = Results(name)
    for content in contents:
        results.scores.update(scores(content))
    if not results.scores:
        raise SolopoError(f"'{folder}' of {name} holds results without a single score: run lm_eval again.")
    return results


def read_file(path: Path) -> dict:
    """One result file, as far as its form can be checked."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SolopoError(f"'{path}' cannot be read ({error}): delete it or run lm_eval again.") from None
    metrics = content.get("results") if isinstance(content, dict) else None
    if not isinstance(metrics, dict) or not all(isinstance(values, dict) for values in metrics.values()):
        raise SolopoError(f"'{path}' has no `results` of lm_eval: delete it or run lm_eval again.")
    return content


def scores(content: dict) -> dict[tuple[str, str], Score]:
    """The scores of one result file; RULER's -1, a length that was not asked for, is none."""
    found = {}
    for task, values in content["results"].items():
        for key, value in values.items():
            metric, _, filter_name = key.partition(",")
            if not filter_name or metric.endswith("_stderr") or not is_number(value):
                continue
            if metric.isdigit() and value < 0:
                continue
            stderr = values.get(f"{metric}_stderr,{filter_name}")
            scale = 100 if is_share(task, metric) else 1
            label = metric if filter_name == "none" else f"{metric} ({filter_name})"
            found[task, label] = Score(
                value * scale, stderr * scale if is_number(stderr) else None, settings(content, task)
            )
    return found


def is_number(value: Any) -> bool:
    """A finite number; the harness writes "N/A" or NaN where it has none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_share(task: str, metric: str) -> bool:
    """Whether a metric runs from 0 to 1: RULER's lengths, the tasks of a column, and the usual names."""
    name = metric.partition(" ")[0].removesuffix("_norm")
    return task in COLUMN_OF or name.isdigit() or name in ("acc", "exact_match", "score", "f1")


def settings(content: dict, task: str) -> dict[str, Any]:
    """What must be equal between two models for their scores on a task to be comparable."""
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    return {
        "version of lm_eval": content.get("lm_eval_version"),
        "version of the task": (content.get("versions") or {}).get(task),
        "chat template": content.get("chat_template_sha") or "none",
        "system prompt": content.get("system_instruction") or "none",
        "few-shot examples": (content.get("n-shot") or {}).get(task),
        "number of questions": content["results"][task].get("sample_len"),
        "--limit": config.get("limit"),
        "back end": config.get("model"),
        "window": content.get("max_length"),
        "RoPE": arguments.get("rope_parameters") or arguments.get("hf_overrides") or "the model's own",
        "precision": arguments.get("dtype", "auto"),
        "--gen_kwargs": config.get("gen_kwargs") or "none",
    }


def render(models: list[Results]) -> str:
    """Two tables, averages beside the paper's and every task, and what is to know about them."""
    shared, notes = shared_cells(models)
    parts = [
        "# Benchmarks\n",
        "Percent, higher is better; `as given` marks a metric of another scale, as the harness writes it.\n",
        averages_table(models, shared),
        "## Tasks\n",
        tasks_table(models),
        "## What is comparable\n",
        *(f"- {note}" for note in (*PAPER_NOTES, *column_notes(shared), *notes, *setting_notes(models))),
    ]
    return "\n".join(parts) + "\n"


def shared_cells(models: list[Results]) -> tuple[dict[str, set[tuple[str, str]]], list[str]]:
    """For each column the cells that all models with any of it have, and a note on what that leaves out."""
    shared, notes = {}, []
    for column, tasks in AVERAGES.items():
        present = {model.name: cells for model in models if (cells := model.cells(column))}
        if not present:
            continue
        shared[column] = set.intersection(*present.values())
        for name, cells in present.items():
            if left_out := cells - shared[column]:
                notes.append(f"{column} leaves out what {name} has and another row lacks: {cell_names(left_out)}.")
        if missing := [task for task in tasks if task not in {task for task, _ in shared[column]}]:
            notes.append(f"{column} is without {', '.join(missing)}, which not every row has.")
    return shared, notes


def averages_table(models: list[Results], shared: dict[str, set[tuple[str, str]]]) -> str:
    """Rows: the models, then the paper's. Columns: the paper's three and what else was measured."""
    columns = [column for column in (*AVERAGES, "NIAH-Plus") if column in shared or column in PAPER_COLUMNS]
    header = ["model", *(column + lengths_text(shared.get(column, ())) for column in columns)]
    rows = []
    for model in models:
        rows.append([model.name, *(average(model, shared.get(column, set())) for column in columns)])
    for name, figures in PAPER.items():
        by_column = dict(zip(PAPER_COLUMNS, figures, strict=True))
        rows.append([f"paper: {name}", *(number(by_column.get(column), None) for column in columns)])
    return _table(header, rows)


def average(model: Results, cells: set[tuple[str, str]]) -> str:
    """The mean over tasks, of each task's mean over its metrics or lengths."""
    if not cells or not cells <= model.scores.keys():
        return "-"
    by_task: dict[str, list[Score]] = {}
    for cell in sorted(cells):
        by_task.setdefault(cell[0], []).append(model.scores[cell])
    value = sum(sum(score.value for score in scores) / len(scores) for scores in by_task.values()) / len(by_task)
    # Independent questions: one metric of each task, as two metrics of a task share theirs.
    errors = [scores[0].stderr for scores in by_task.values() if len(scores) == 1]
    known = len(errors) == len(by_task) and None not in errors
    return number(value, math.hypot(*errors) / len(errors) if known else None)


def tasks_table(models: list[Results]) -> str:
    """A row for each task and metric, those of the averages first."""
    order = list(COLUMN_OF)

    def place(cell: tuple[str, str]) -> tuple:
        task, metric = cell
        known = order.index(task) if task in COLUMN_OF else len(order)
        return (known, task, int(metric) if metric.isdigit() else 0, metric)

    cells = {cell for model in models for cell in model.scores if has_a_row(*cell)}
    rows = []
    for task, metric in sorted(cells, key=place):
        found = [model.scores.get((task, metric)) for model in models]
        figures = [number(score.value, score.stderr) if score else "-" for score in found]
        name = f"{length_text(metric)} tokens" if metric.isdigit() else metric
        rows.append([task, name if is_share(task, metric) else f"{name}, as given", *figures])
    return _table(["task", "metric", *(model.name for model in models)], rows)


def has_a_row(task: str, metric: str) -> bool:
    """All but the parts of a group and the metrics that repeat another."""
    if task in COLUMN_OF:
        return enters(COLUMN_OF[task], task, metric)
    if task.startswith("longbench_"):
        return metric == "score"
    return not task.startswith(GROUPED)


def column_notes(shared: dict[str, set[tuple[str, str]]]) -> list[str]:
    """What is measured in each column of the table."""
    return [note for column, note in COLUMN_NOTES.items() if column in shared or column == "NIAH-Plus"]


def setting_notes(models: list[Results]) -> list[str]:
    """Says where the models were not measured in the same way, and where only a part was."""
    notes = []
    base = models[0]
    for model in models[1:]:
        different: dict[str, set[str]] = {}
        for cell in model.scores.keys() & base.scores.keys():
            ours, theirs = base.scores[cell].settings, model.scores[cell].settings
            for key in ours:
                if ours[key] != theirs[key]:
                    different.setdefault(key, set()).add(cell[0])
        for key, tasks in different.items():
            notes.append(f"{base.name} and {model.name} differ in {key}: {', '.join(sorted(tasks))}.")
    for model in models:
        limited = sorted({task for (task, _), score in model.scores.items() if score.settings["--limit"]})
        if limited:
            notes.append(f"{model.name} was measured with --limit, on a part of the questions: {', '.join(limited)}.")
    return notes


def cell_names(cells: set[tuple[str, str]]) -> str:
    """Names of cells, for a note."""
    return ", ".join(
        f"{task} at {length_text(metric)}" if metric.isdigit() else task
        for task, metric in sorted(cells, key=lambda cell: (cell[0], cell[1].zfill(9)))
    )


def lengths_text(cells: set[tuple[str, str]]) -> str:
    """The lengths in a column's average, such as ", 4K 8K"."""
    lengths = sorted({int(metric) for _, metric in cells if metric.isdigit()})
    return ", " + " ".join(length_text(str(length)) for length in lengths) if lengths else ""


def length_text(metric: str) -> str:
    """4096 as 4K."""
    length = int(metric)
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def number(value: float | None, stderr: float | None) -> str:
    """A figure of a table, with its standard error where there is one."""
    if value is None:
        return "-"
    return f"{value:.1f}" if stderr is None else f"{value:.1f} ± {stderr:.1f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Figures to the right of names, and a blank line after them."""
    return table(header, rows, ["left"] + ["right"] * (len(header) - 1)) + "\n"
