"""One seed of the experiment through the product: pairs by `solopo build`, training by LLaMA-Factory, answers by `solopo eval`."""

import gc
import json
import os
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from llamafactory.train.tuner import run_exp

from solopo_llamafactory.common.files import read_json
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from solopo_llamafactory.evaluate.answers import ask_models
from solopo_llamafactory.evaluate.arguments import EvalArguments
from solopo_llamafactory.evaluate.grid import make_grid, read_contexts, ready_grid
from solopo_llamafactory.evaluate.judging import judge_answers, read_answers, read_places
from solopo_llamafactory.questions.rendering import Renderer
from solopo_llamafactory.sampling.marks import make_marks

from . import results_file
from .model import make_model
from .split import HELD_OUT, paragraphs_of, write_parts
from .units import BASE, Size, Unit


WORDING = "direct"
EVAL_SEED = 42
HELD_OUT_PAIRS = "held_out"


@dataclass(frozen=True)
class Workspace:
    """All files of the experiment, in `folder`.

    Args:
        questions: XQuAD's file.
        model: see `make_model`.
        template: LLaMA-Factory's name of the model's chat template.
        infer_dtype: the precision that models answer in on a GPU. bfloat16 rounds most of what these few steps change away.
    """

    folder: Path
    size: Size
    questions: str
    model: str
    template: str
    infer_dtype: str = "float16"

    @property
    def base(self) -> Path:
        return self.folder / "model"

    def prepare(self) -> None:
        """The base model and the questions by part."""
        if not (self.folder / "test_distractors.jsonl").is_file():
            write_parts(self.questions, self.folder)
        make_model(self.model, self.base)

    def where(self) -> dict:
        """Machine and versions."""
        names = ("torch", "transformers", "llamafactory", "solopo-llamafactory")
        cuda = torch.cuda.is_available()
        return {
            "machine": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
            "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        }

    def build(self, seed: int) -> dict:
        """The pairs of a seed, sampled by the base model, and a row about them."""
        self._build("train", self.pairs(seed), seed, self.size.pairs, self.size.pairs_per_question)
        return self.pairs_row(seed)

    def need_pairs(self) -> None:
        """The pairs of seed 0, built where they are missing."""
        if not self.pairs(0).is_file():
            self.build(0)

    def need_held_out(self, pairs: int) -> None:
        """Pairs of development questions beside those of seed 0, one a question, built where they are missing."""
        output = self.pairs(0).with_name(f"{HELD_OUT_PAIRS}.jsonl")
        if not output.is_file():
            self._build("dev", output, 0, pairs, 1, corpus=str(self.folder / "dev_distractors.jsonl"))

    def _build(self, part: str, output: Path, seed: int, pairs: int, pairs_per_question: int, **more) -> None:
        size = self.size
        run_build(
            BuildArguments(
                source="squad",
                input=str(self.folder / f"{part}.json"),
                wording=WORDING,
                output=str(output),
                tokenizer=str(self.base),
                template=self.template,
                short_tokens=size.short_tokens,
                long_tokens=size.long_tokens,
                num_contexts=10**6,
                num_examples=pairs,
                pairs_per_question=pairs_per_question,
                n=size.n,
                temperature=size.temperature,
                max_new_tokens=size.sampled_tokens,
                engine_args=self.engine_args(),
                dataset_info=str(output.with_name("dataset_info.json")),
                seed=seed,
                **more,
            )
        )

    def pairs(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}" / "pairs.jsonl"

    def run(self, unit: Unit) -> dict:
        """One unit: returns its row. The test questions are asked only where no finished rate of the method did better on
        the development questions."""
        begun = time.monotonic()
        row = {
            "unit": unit.name,
            "infer_dtype": self.infer_dtype,
            "method": unit.method,
            "view": unit.view,
            "rate": unit.rate,
        }
        row["seed"] = unit.seed if unit.rate else None
        if unit.method == BASE:
            self.make_grids()
        output = self.folder / "models" / unit.name
        if unit.rate:
            started = time.monotonic()
            arguments = self.training(unit, output)
            run_exp(arguments)
            row["arguments"] = {
                key: value for key, value in arguments.items() if not str(value).startswith(str(self.folder))
            }
            row["losses"] = self.losses(output)
            row["train_seconds"] = round(time.monotonic() - started, 1)
            forget()
        try:
            model = output if unit.rate else self.base
            row["dev"] = self.evaluate("dev", unit.name, model)
            best = results_file.chosen(results_file.read(self.folder), unit.method, unit.seed)
            if best is None or results_file.dev_score(row) >= results_file.dev_score(best):
                row["test"] = self.evaluate("test", unit.name, model)
        finally:
            forget()
            if unit.rate:
                shutil.rmtree(output, ignore_errors=True)
        return row | {"seconds": round(time.monotonic() - begun, 1)}

    def training(self, unit: Unit, output: Path) -> dict:
        """The arguments of LLaMA-Factory."""
        size = self.size
        return {
            "stage": "solopo",
            "do_train": True,
            "model_name_or_path": str(self.base),
            "finetuning_type": "full",
            "flash_attn": "sdpa",
            "template": self.template,
            "dataset": "pairs",
            "dataset_dir": str(self.pairs(unit.seed).parent),
            # One a view and a process: the tokens differ, and two processes cannot make one folder.
            "tokenized_path": str(self.folder / "tokens" / f"{unit.seed}_{unit.view}_{os.getpid()}"),
            "cutoff_len": size.long_tokens + 2 * size.sampled_tokens,
            "preprocessing_num_workers": min(8, os.cpu_count() or 1),
            "per_device_train_batch_size": size.batch_size,
            "gradient_accumulation_steps": size.accumulation,
            "max_steps": size.steps,
            "learning_rate": unit.rate,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.1,
            "bf16": torch.cuda.is_available(),
            "logging_steps": max(1, size.steps // 20),
            "save_strategy": "no",
            "report_to": "none",
            "seed": unit.seed,
            "output_dir": str(output),
            "overwrite_output_dir": True,
            **unit.arguments,
        }

    def losses(self, output: Path) -> list[dict]:
        """The logs of training, rounded."""
        logs = read_json(output / "trainer_state.json", "train")["log_history"]
        return [{key: float(f"{value:.4g}") for key, value in log.items()} for log in logs if "loss" in log]

    def evaluation(self, part: str, name: str, model: Path) -> EvalArguments:
        """The arguments of `solopo eval` for one model."""
        size = self.size
        return EvalArguments(
            source="squad",
            input=str(self.folder / f"{part}.json"),
            corpus=str(self.folder / f"{part}_distractors.jsonl"),
            wording=WORDING,
            tokenizer=str(self.base),
            template=self.template,
            task="single_doc",
            lengths=size.lengths[part],
            depths=list(size.depths),
            num_questions=size.questions[part],
            models=[{"name": name, "model_name_or_path": str(model), "engine_args": self.engine_args()}],
            max_new_tokens=size.answer_tokens,
            seed=EVAL_SEED,
            output=str(self.folder / part),
        )

    def engine_args(self) -> dict:
        return {"infer_dtype": self.infer_dtype} if torch.cuda.is_available() else {}

    def make_grids(self) -> None:
        """The contexts of the development and the test questions, and a row for each with who is in it."""
        for part in HELD_OUT:
            args = self.evaluation(part, BASE, self.base)
            if ready_grid(args) is None:
                make_grid(args, Renderer(args.tokenizer, args.template))
            rows = list(read_contexts(args))
            numbers = paragraphs_of(self.folder / f"{part}.json")
            ids = list(dict.fromkeys(row["question_id"] for row in rows))
            row = {"part": part, "questions": ids, "paragraphs": [numbers[id] for id in ids]}
            if row not in results_file.read(self.folder):
                results_file.append(self.folder, row)

    def evaluate(self, part: str, name: str, model: Path) -> dict:
        """One model's answers, judged: of each length, at how many depths each question was answered right (a digit a
        question), and the share of answers cut off."""
        started = time.monotonic()
        args = self.evaluation(part, name, model)
        tokenizer = Renderer(args.tokenizer, args.template).tokenizer
        marks = make_marks(args, tokenizer, args.template)
        args.answers_path(name).unlink(missing_ok=True)  # of a unit that was stopped: its weights are gone
        for reason in ask_models(args, list(read_contexts(args)), {name: marks}).values():
            raise RuntimeError(f"{name} is not finished: {reason}")
        grid = read_places(args.contexts_path)
        window = read_json(args.record_path(name), "eval")["window"]
        right = judge_answers(args, name, grid, window, marks).right.sum(axis=2)
        cut_off = dict.fromkeys(grid.lengths, 0)
        for row in read_answers(args.answers_path(name)):
            cut_off[grid.lengths[grid.places[row["id"]].length]] += row["samples"][0]["finish"] == "length"
        each = len(right) * len(grid.depths)
        return {
            "depths": len(grid.depths),
            "right": {str(length): "".join(f"{n:.0f}" for n in right[:, i]) for i, length in enumerate(grid.lengths)},
            "cut_off": {str(length): round(count / each, 4) for length, count in cut_off.items()},
            "seconds": round(time.monotonic() - started, 1),
        }

    def pairs_row(self, seed: int) -> dict:
        """How many pairs a seed has, of how many questions."""
        counts = json.loads(self.pairs(seed).with_suffix(".build").joinpath("selection.json").read_text())
        metas = [json.loads(json.loads(line)["meta"]) for line in self.pairs(seed).read_text("utf-8").splitlines()]
        return {
            "pairs": len(metas),
            "seed": seed,
            "questions": len({meta["question_id"] for meta in metas}),
            "samples": counts["samples"],
            "right": counts["sub_em"],
            "cut_off": counts["cut_off"],
        }


def forget() -> None:
    """Give the memory of a model that is no longer used back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
