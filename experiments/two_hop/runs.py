"""One seed of the miniature through the product: base, pairs, training runs, evaluation. Finished parts are kept."""

import json
import os
import shutil
import time
from pathlib import Path
from statistics import median

import torch
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback

from solopo_llamafactory.common.files import read_json, write_json
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from solopo_llamafactory.evaluate.answers import ask_models
from solopo_llamafactory.evaluate.arguments import EvalArguments
from solopo_llamafactory.evaluate.grid import make_grid, read_contexts, ready_grid
from solopo_llamafactory.evaluate.run import run_eval
from solopo_llamafactory.questions.rendering import Renderer

from .base import make_base
from .methods import Method
from .sizes import SHORT_TOKENS, Size


SHIPPED_BASE = Path("data/two_hop/base")
MAX_NEW_TOKENS = 14
TOKENS_OF_A_FACT = 4
SPARE_FACTS = 32  # those that name the answer are no distractors
BATCH_SIZE = 64  # questions that are sampled at a time
EVAL_BATCH_SIZE = 32
TIMED_STEPS = 26  # from the end of the first one to the end of the last one
WARM_UP_STEPS = 5


class Seed:
    """All files of one seed, in `folder`."""

    def __init__(self, folder: Path, size: Size, seed: int) -> None:
        self.folder = folder / f"seed-{seed}"
        self.size = size
        self.seed = seed
        self.base = self.folder / "base" / "model"
        self.pairs = self.folder / "pairs.jsonl"

    def prepare(self) -> None:
        """The base model and the pairs that it gives."""
        base = {"steps": self.size.base_steps, "seed": self.seed}
        if not self._is_finished(self.base, base):
            shutil.rmtree(self.folder, ignore_errors=True)  # whatever was made from another base
            if self.size.base_steps:
                make_base(self.base.parent, self.seed, self.size.base_steps)
            else:
                shutil.copytree(SHIPPED_BASE, self.base, dirs_exist_ok=True)
            self._finish(self.base, base)
        if not self.pairs.is_file():
            run_build(
                BuildArguments(
                    source="two_hop",
                    input=self._questions("train", self.size.train_questions, self.size.long_tokens),
                    output=str(self.pairs),
                    tokenizer=str(self.base),
                    template="chatml",
                    short_tokens=SHORT_TOKENS,
                    long_tokens=self.size.long_tokens,
                    num_contexts=self.size.train_questions,
                    num_examples=self.size.pairs,
                    n=8,
                    temperature=1.2,
                    max_new_tokens=MAX_NEW_TOKENS,
                    batch_size=BATCH_SIZE,
                    dataset_info=str(self.folder / "dataset_info.json"),
                    seed=self.seed,
                )
            )
        info = read_json(self.folder / "dataset_info.json", "build")
        columns = {"prompt": "long_prompt", "query": "", "response": "chosen"}
        write_json(
            self.folder / "dataset_info.json", info | {"pairs_sft": {"file_name": "pairs.jsonl", "columns": columns}}
        )

    def train(self, method: Method, learning_rate: float) -> None:
        """One training run of LLaMA-Factory."""
        output = self.model(method, learning_rate)
        arguments = self._arguments(method, learning_rate)
        if self._is_finished(output, arguments):
            return
        run_exp(arguments | {"output_dir": str(output), "overwrite_output_dir": True})
        self._finish(output, arguments)

    def _arguments(self, method: Method, learning_rate: float) -> dict:
        return {
            "do_train": True,
            "model_name_or_path": str(self.base),
            "disable_gradient_checkpointing": True,
            "template": "chatml",
            "finetuning_type": "full",
            "dataset_dir": str(self.folder),
            "cutoff_len": self.size.long_tokens + 2 * MAX_NEW_TOKENS,
            "overwrite_cache": True,
            "per_device_train_batch_size": self.size.batch_size,
            "max_steps": self.size.steps,
            "learning_rate": learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.1,
            "adam_beta2": 0.98,
            "weight_decay": 0.01,
            "logging_steps": 10,
            "save_strategy": "no",
            "report_to": "none",
            "seed": self.seed,
            **method.arguments,
        }

    def time(self, method: Method, learning_rate: float) -> float:
        """Median seconds of a training step, in a short run that should have the machine for itself, all cores included."""
        torch.set_num_threads(os.cpu_count() or 1)
        output = self.folder / "timing" / method.folder(learning_rate)
        arguments = self._arguments(method, learning_rate) | {"max_steps": TIMED_STEPS}
        path = output / "seconds.json"
        if not self._is_finished(output, arguments):
            clock = StepClock()
            run_exp(arguments | {"output_dir": str(output), "overwrite_output_dir": True}, callbacks=[clock])
            write_json(path, clock.seconds)
            self._finish(output, arguments)
        return median(json.loads(path.read_text())[WARM_UP_STEPS:])

    def make_contexts(self, part: str) -> None:
        """The contexts of the development or the test questions."""
        args = self._evaluation(part, {"base": self.base})
        if ready_grid(args) is None:
            make_grid(args, Renderer(args.tokenizer, args.template))

    def ask(self, part: str, name: str, model: Path) -> None:
        """One model's answers, for `evaluate` to find."""
        args = self._evaluation(part, {name: model})
        for reason in ask_models(args, read_contexts(args)).values():
            raise RuntimeError(f"{name} is not finished: {reason}")

    def evaluate(self, part: str, models: dict[str, Path]) -> dict:
        """`solopo eval` of these models; returns results.json."""
        args = self._evaluation(part, models)
        run_eval(args)
        return read_json(args.folder / "results.json", "eval")

    def _evaluation(self, part: str, models: dict[str, Path]) -> EvalArguments:
        is_test = part == "test"
        lengths = list(self.size.lengths) if is_test else [SHORT_TOKENS, self.size.long_tokens]
        questions = self.size.test_questions if is_test else self.size.dev_questions
        return EvalArguments(
            source="two_hop",
            input=self._questions(part, questions, lengths[-1]),
            tokenizer=str(self.base),
            template="chatml",
            lengths=lengths,
            depths=[0, 0.25, 0.5, 0.75, 1] if is_test else [0, 0.5, 1],
            num_questions=questions,
            models=[{"name": name, "model_name_or_path": str(path)} for name, path in models.items()],
            max_new_tokens=MAX_NEW_TOKENS,
            batch_size=EVAL_BATCH_SIZE,
            seed=self.seed,
            output=str(self.folder / part),
        )

    def model(self, method: Method, learning_rate: float) -> Path:
        """The folder of a trained model."""
        return self.folder / "models" / method.folder(learning_rate)

    def tokens_of_a_pair(self) -> dict[str, float]:
        """Mean tokens of the short and the long prompt and of the two answers."""
        metas = [json.loads(json.loads(line)["meta"]) for line in self.pairs.read_text().splitlines()]
        columns = {
            "short": [meta["tokens"]["short"] for meta in metas],
            "long": [meta["tokens"]["long"] for meta in metas],
            "chosen": [meta["answer_tokens"]["chosen"] for meta in metas],
            "rejected": [meta["answer_tokens"]["rejected"] for meta in metas],
        }
        return {name: sum(values) / len(values) for name, values in columns.items()}

    def _questions(self, part: str, count: int, tokens: int) -> str:
        """The file that tells the source what to make up; no seed or part shares questions with another."""
        path = self.folder / f"{part}.json"
        facts = tokens // TOKENS_OF_A_FACT + SPARE_FACTS
        values = {"questions": count, "facts": facts, "seed": f"{part} {self.seed}"}
        if not path.is_file() or read_json(path, "build") != values:  # contexts are made anew for a newer file
            write_json(path, values)
        return str(path)

    def _is_finished(self, folder: Path, arguments: dict) -> bool:
        """Whether an earlier run has made it with the same arguments."""
        path = folder / "finished"
        return path.is_file() and json.loads(path.read_text()) == arguments

    def _finish(self, folder: Path, arguments: dict) -> None:
        write_json(folder / "finished", arguments)


class StepClock(TrainerCallback):
    """Seconds from one optimizer step's end to the next one's."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now
