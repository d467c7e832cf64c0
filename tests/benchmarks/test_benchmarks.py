"""The benchmarks: their cells, their files and, on a CPU with a tiny model, three of their runs."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import attention, data_side, table
from benchmarks.cells import SUITES, Cell, suite
from benchmarks.results_file import Results, latest_rows, read_rows, time_ratio
from benchmarks.worker import summarize
from benchmarks.workload import lengths_of, write_workload
from solopo_llamafactory.data.sequences import Lengths


PNG = b"\x89PNG"


def row_of(cell: Cell, seconds: float | None = 1.0, **fields) -> dict:
    """A row as a run of the cell leaves it; `seconds` is the median step."""
    measured = {
        "median_seconds": seconds,
        "step_memory_gib": None,
        "peak_allocated_gib": None,
        "used_gib": None,
        "wall_seconds": 1,
    }
    row = {**dataclasses.asdict(cell), "status": "ok", "machine": "one", **measured, **fields}
    return json.loads(json.dumps(row))


@pytest.mark.parametrize("tiny", (False, True))
@pytest.mark.parametrize("name", SUITES)
def test_cells_are_unique_and_complete(name, tiny):
    cells = suite(name, gpus=2, tiny=tiny)
    assert len({cell.name for cell in cells}) == len(cells) == len(set(cells))
    assert cells[0].method == "ceiling"
    assert {"host", "solopo"} <= {cell.method for cell in cells}
    for cell in cells:
        assert cell.suite == name
        assert 0 <= cell.warmup < cell.steps
        assert Cell.of(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell
        assert not (tiny and (cell.overrides or cell.gpus > 1 or not cell.on_cpu))


def test_overrides_are_arguments_of_the_run():
    from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments

    from solopo_llamafactory.hooks.arguments import SolopoFinetuningArguments

    classes = (ModelArguments, DataArguments, TrainingArguments, SolopoFinetuningArguments)
    known = {field.name for each in classes for field in dataclasses.fields(each)}
    cells = [cell for name in SUITES for cell in suite(name, gpus=2) if cell.method != "trl"]
    used = {key for cell in cells for key, _ in cell.overrides}
    assert "solopo_checkpoint_layers" in used and used <= known


def test_trl_runs_in_an_environment_of_its_own_or_not_at_all(tmp_path, monkeypatch, capsys):
    started = []

    def run(command_line, *rest):
        started.append(command_line)
        return 1

    monkeypatch.setattr(command, "run_process", run)
    monkeypatch.setattr(command, "last_words", lambda text: "stopped")
    monkeypatch.setattr(command.Path, "read_text", lambda self, **options: "")
    arguments = ["--suite", "forward_backward", "--tiny", "--only", "orpo full 128 all layers trl", "--results"]
    assert command.main([*arguments, str(tmp_path / "without.jsonl")]) == 0 and not started
    assert command.main([*arguments, str(tmp_path / "with.jsonl"), "--trl", "other/python"]) == 1
    ((python, option, module, _),) = started
    assert (python, option, module) == ("other/python", "-m", "benchmarks.trl_worker")
    assert "--trl PYTHON" in read_rows(tmp_path / "with.jsonl")[0]["command"]


@pytest.mark.skipif("TRL_PYTHON" not in os.environ, reason="TRL_PYTHON names no Python with TRL 1.16")
def test_trl_reads_the_same_tokens(tmp_path):
    arguments = ["--suite", "forward_backward", "--tiny", "--only", "full 128 all layers trl", "--results"]
    assert command.main([*arguments, str(tmp_path / "r.jsonl"), "--trl", os.environ["TRL_PYTHON"]]) == 0
    assert [row["loss"] for row in read_rows(tmp_path / "r.jsonl")] == ["orpo", "sigmoid", "simpo"]


def test_examples_have_the_wanted_tokens(tmp_path):
    from transformers import AutoTokenizer

    cell = Cell("forward_backward", "solopo", 256, shape="tiny", steps=2, multiple=8)
    arguments = write_workload(cell, tmp_path)
    lengths = lengths_of(cell)
    assert ((lengths.long_prompt + lengths.chosen) % 8 == 0).all()
    assert (lengths.long_prompt + lengths.chosen >= 256 * 0.97 - 8).all()
    assert lengths_of(dataclasses.replace(cell, method="host")).long_prompt.tolist() == lengths.long_prompt.tolist()

    tokenizer = AutoTokenizer.from_pretrained(arguments["model_name_or_path"])
    rows = read_rows(tmp_path / "pairs.jsonl")
    for prompts, answers in ((lengths.short_prompt, lengths.rejected), (lengths.long_prompt, lengths.chosen)):
        prompt, answer = ("short_prompt", "rejected") if prompts is lengths.short_prompt else ("long_prompt", "chosen")
        for i, row in enumerate(rows):
            turn = f"<|im_start|>user\n{row[prompt]}<|im_end|>\n<|im_start|>assistant\n"
            assert len(tokenizer.encode(turn)) == prompts[i]
            assert len(tokenizer.encode(f"{row[answer]}<|im_end|>")) == answers[i]
    assert tokenizer.unk_token_id not in tokenizer.encode(rows[0]["long_prompt"])


def test_a_rerun_skips_finished_cells_and_repeats_failed_ones(tmp_path, monkeypatch, capsys):
    """Of the host's five lengths the second runs out of memory: the longer ones are never started."""
    path = tmp_path / "results.jsonl"
    started = []
    status = {256: "ok", 272: "oom"}

    def run_cell(cell, *_):
        started.append(cell.length)
        return row_of(cell, status=status.get(cell.length, "failed"), machine="one", error="boom")

    monkeypatch.setattr(command, "run_cell", run_cell)
    arguments = ["--suite", "longest", "--tiny", "--results", str(path), "--only", "host"]
    assert command.main(arguments) == 0
    assert started == [256, 272]
    assert command.main(arguments) == 0
    assert started == [256, 272]
    assert "| out of memory |" in capsys.readouterr().out
    assert (tmp_path / "results_longest.png").read_bytes().startswith(PNG)

    started.clear()
    arguments[-1] = "3072 all layers solopo"
    assert command.main(arguments) == command.main(arguments) == 1
    status[3072] = "ok"
    assert command.main(arguments) == command.main(arguments) == 0
    assert started == [3072, 3072, 3072]
    assert [row["status"] for row in latest_rows(path)] == ["ok", "oom", "ok"]


def test_no_cell_starts_when_the_time_is_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "run_cell", None)
    arguments = ["--suite", "longest", "--tiny", "--results", str(tmp_path / "r.jsonl"), "--limit-seconds", "-1"]
    assert command.main([*arguments, "--only", "256"]) == 0
    assert "Left out, the time was over: tiny orpo full 256 all layers host." in capsys.readouterr().out


def test_a_ceiling_belongs_to_a_machine(tmp_path):
    ceiling = Cell("whole_step", "ceiling", 8192)
    results = Results(tmp_path / "results.jsonl")
    results.append(row_of(ceiling, machine="one", tflops=700.0))
    elsewhere = dataclasses.replace(ceiling, suite="longest")
    assert results.is_done(elsewhere, "one") and not results.is_done(elsewhere, "two")
    assert Results(results.path).rows == results.rows


@pytest.mark.parametrize(
    "text, code, status, error",
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, "oom", None),
        ("Traceback (most recent call last):\n  in f\nKeyError: 'x'\nbye", 3, "failed", "exit code 3\nTraceback"),
        ("waiting", None, "failed", "stopped after 5 s\nwaiting"),
    ],
)
def test_how_a_run_ended(monkeypatch, text, code, status, error):
    def run_process(line, variables, log, limit):
        assert variables["SOLOPO_DISABLE"] == "1"
        log.write_text(text)
        return code

    monkeypatch.setattr(command, "run_process", run_process)
    cell = Cell("forward_backward", "host", 128, shape="tiny", steps=2)
    row = command.run_cell(cell, ["0"], "one", 5)
    assert row["status"] == status
    assert error is None or row["error"].startswith(error)
    assert row["arguments"]["stage"] == "dpo" and "solopo_view" not in row["arguments"]
    assert len(row["examples"]["long_prompt"]) == 2


def test_the_error_of_a_rank_is_told_and_not_torchruns():
    rank = "[rank0]: Traceback (most recent call last):\n[rank0]:   File a\n[rank0]: ValueError: too long\n"
    launcher = "Traceback (most recent call last):\n  torch/distributed/elastic/api.py\nChildFailedError: 1\n"
    assert command.last_words(rank + launcher).endswith("ValueError: too long")


def test_a_run_that_takes_too_long_is_stopped(tmp_path):
    start = time.monotonic()
    assert command.run_process(["sleep", "60"], {"PATH": "/bin:/usr/bin"}, tmp_path / "log", 0.2) is None
    assert time.monotonic() - start < 30


def test_seconds_of_a_step_are_the_slowest_ranks():
    cell = Cell("whole_step", "host", 8192, gpus=2, steps=4, warmup=1)
    gib = 2**30
    ranks = [([9.0, 1.0, 2.0, 5.0], 3 * gib, 4 * gib, 5 * gib, gib), ([9.0, 2.0, 1.0, 3.0], gib, gib, 6 * gib, gib)]
    row = summarize(cell, ranks)
    assert row["seconds"] == [2.0, 2.0, 5.0] and row["median_seconds"] == 2.0
    assert row["peak_allocated_gib"] == 3.0 and row["used_gib"] == 6.0 and row["step_memory_gib"] is None
    alone = summarize(dataclasses.replace(cell, suite="forward_backward"), ranks)
    assert alone["step_memory_gib"] == 2.0  # 3 allocated, 1 of them weights and gradients


def test_ratios_by_hand(tmp_path):
    """Host 2 s, long view 1.2 s and 1.0 s, ours 0.9 s and 0.8 s; a liger host of 1.6 s is liger's rival."""

    def cell(method, variant="all layers", length=8192):
        return Cell("forward_backward", method, length, variant=variant)

    rows = [
        row_of(cell("host"), 2.0, step_memory_gib=36.0, peak_allocated_gib=64.4, used_gib=70.0),
        row_of(cell("long"), 1.2),
        row_of(cell("long", "by need"), 1.0),
        row_of(cell("solopo"), 0.9, step_memory_gib=4.6, peak_allocated_gib=33.0, used_gib=40.0),
        row_of(cell("solopo", "by need"), 0.8),
        row_of(cell("host", "liger"), 1.6),
        row_of(cell("solopo", "liger"), 0.4),
        row_of(cell("host", length=16384), None, status="oom"),
        row_of(cell("solopo", length=16384), 2.0),
    ]
    ratio = {
        (row["method"], row["variant"], row["length"], rival): time_ratio(row, rows, rival)
        for row in rows
        for rival in ("host", "long")
        if row["status"] == "ok"
    }
    assert ratio["solopo", "all layers", 8192, "host"] == pytest.approx(0.45)
    assert ratio["solopo", "by need", 8192, "host"] == pytest.approx(0.4)
    assert ratio["long", "by need", 8192, "host"] == pytest.approx(0.5)
    assert ratio["solopo", "all layers", 8192, "long"] == pytest.approx(0.75)
    assert ratio["solopo", "by need", 8192, "long"] == pytest.approx(0.8)
    assert ratio["solopo", "liger", 8192, "host"] == pytest.approx(0.25)
    assert ratio["host", "liger", 8192, "host"] == pytest.approx(0.8)
    assert ratio["solopo", "all layers", 16384, "host"] is None

    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [row_of(cell("solopo"), 7.0), *rows]))
    text = table.write_report(path)
    assert "| 8192 | solopo | all layers | 0.9 | 0.45 | 0.75 | 4.6 | 33.0 | 40.0 |" in text  # the later row counts
    assert "| 16384 | host's dpo stage, long | all layers | out of memory |" in text
    assert (tmp_path / "results.md").read_text() == text
    for picture in ("time", "memory"):
        assert (tmp_path / f"results_{picture}.png").read_bytes().startswith(PNG)


def test_model_flops_by_hand(monkeypatch):
    """A packed row of 20 + 5 + 9 and 70 + 5 tokens; the tiny shape has 2 layers of hidden size 64."""
    lengths = Lengths(*(np.array([n], dtype=float) for n in (20, 70, 5, 9)))
    monkeypatch.setattr(table, "lengths_of", lambda cell: lengths)
    cell = Cell("whole_step", "solopo", 75, shape="tiny", warmup=0, steps=1)
    per_token = 2 * (64 * 16 * 2 * (4 + 2) + 3 * 64 * 128)
    tokens = 34 + 75
    pairs = 20 * 21 / 2 + 20 * 14 + 5 * 6 / 2 + 9 * 10 / 2 + 75 * 76 / 2
    linear = per_token * tokens + 64 * 2048 * (5 + 9 + 5)
    attention_pairs = 2 * 2 * 64 * pairs
    assert table.tokens_per_step(cell) == tokens
    assert table.model_flops(cell) == pytest.approx(6 * (linear + attention_pairs))
    lora = dataclasses.replace(cell, finetuning="lora")
    assert table.model_flops(lora) == pytest.approx(4 * linear + 6 * attention_pairs)
    live = dataclasses.replace(cell, loss="sigmoid", overrides=(("solopo_precompute_ref", False),))
    assert table.model_flops(live) == pytest.approx(8 * (linear + attention_pairs))

    flops = 6 * (linear + attention_pairs)
    ceiling = row_of(Cell("whole_step", "ceiling", 128, shape="tiny"), tflops=flops / 1e12)
    text = table.markdown([ceiling, row_of(cell, seconds=4.0)])
    assert text.splitlines()[-1].endswith("| 25% |")


def test_three_runs_on_a_cpu(tmp_path, capfd):
    """The host, plain long PO and ours, each in its process, then a rerun that has nothing to do."""
    path = tmp_path / "results.jsonl"
    arguments = ["--suite", "forward_backward", "--tiny", "--gpus", "0,1", "--results", str(path)]
    arguments += ["--only", "orpo full 128 all layers"]
    assert command.main(arguments) == 0
    first = capfd.readouterr().out
    rows = {row["method"]: row for row in read_rows(path)}
    assert set(rows) == {"host", "long", "solopo"}
    for row in rows.values():
        assert row["status"] == "ok" and len(row["losses"]) == 3
        assert len(row["seconds"]) == 2 and row["median_seconds"] == pytest.approx(np.mean(row["seconds"]))
        assert row["peak_allocated_gib"] is None
        assert row["versions"]["llamafactory"] == "0.9.5"
        assert row["wall_seconds"] > row["median_seconds"] > 0
    # The same examples, the same weights: the long view is the host's own loss.
    assert rows["long"]["losses"] == pytest.approx(rows["host"]["losses"], rel=1e-3)
    assert rows["solopo"]["losses"] != pytest.approx(rows["host"]["losses"], rel=1e-3)
    assert "### forward backward, tiny, orpo, full, CPU" in first
    assert (tmp_path / "results_time.png").read_bytes().startswith(PNG)

    assert command.main(arguments) == 0
    assert len(read_rows(path)) == 3
    assert capfd.readouterr().out.count(": has a result") == 3


def test_attention_alone(capsys):
    assert attention.main(["--length", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) >= 2 and not any("WRONG" in line for line in lines)
    if not attention.torch.cuda.is_available():
        assert [line.split(" | ")[1] for line in lines] == ["SDPA", "eager"]


def test_a_wrong_kernel_is_not_timed(monkeypatch, capsys):
    kernels = {"SDPA": attention.sdpa_spans, "wrong": lambda *args: attention.sdpa_spans(*args) + 1}
    monkeypatch.setattr(attention, "CPU_KERNELS", kernels)
    monkeypatch.setattr(attention, "GPU_KERNELS", kernels)
    monkeypatch.setattr(attention, "CALLS", 1)
    assert attention.main(["--length", "32"]) == 1
    assert "| wrong | WRONG |" in capsys.readouterr().out


def test_the_data_side(monkeypatch, capsys):
    monkeypatch.setattr(data_side, "WORKERS", (0, 1))
    assert data_side.main(["--examples", "2", "--short", "60", "--long", "200", "--batches", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("2 examples, mean prompts of") for line in lines)
    rates = [float(line.split(" | ")[1]) for line in lines if line.startswith(("| processor", "| collator"))]
    assert len(rates) == 3 and min(rates) > 0


@pytest.mark.slow
def test_sampling_both_ways(tmp_path, capsys):
    from benchmarks.sampling import main

    results = tmp_path / "sampling.jsonl"
    assert main(["--tiny", "--results", str(results), "--only", "135m 1100"]) == 0  # equal in float32
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["engine"] for row in rows] == ["generate", "generate", "slots"] * 2
    assert all(row["answers"] == row["questions"] * max(row["n"], 1) and row["answer_tokens"] > 0 for row in rows)
    shown = capsys.readouterr().out
    assert "24 of 24 answers are equal" in shown and "48 of 48 further answers are the same" in shown
