"""One cell of TRL's trainers in its own process: `python -m benchmarks.trl_worker JOB.json`, in an environment with TRL 1.16.

JOB.json is as for `worker.py`; of the run's arguments only the folder of the workload is read. TRL trains on the long pair.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from .cells import Cell
from .worker import keep_gradients, make_measurement
from .workload import lengths_of


# chatml, whose line breaks are no tokens here
HEAD, TAIL = "<|im_start|> user ", " <|im_end|> <|im_start|> assistant "


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    cell, folder = Cell.of(job["cell"]), Path(job["arguments"]["dataset_dir"])
    trainer = make_trainer(cell, folder)
    measurement = make_measurement(cell, Path(job["result"]))
    measurement.trainer = trainer
    trainer.add_callback(measurement)
    if cell.suite == "forward_backward":
        trainer.training_step = measurement.around(trainer.training_step)
        keep_gradients(trainer)
    trainer.train()


def make_trainer(cell: Cell, folder: Path) -> Any:
    """The trainer of the cell's loss, set as for a full fine-tuning of a large model."""
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    config = AutoConfig.from_pretrained(folder / "model")
    config.use_cache = False
    with torch.device("cpu" if cell.on_cpu else "cuda"):  # billions of random numbers take minutes on a CPU
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype, attn_implementation="sdpa")
    trainer_class, config_class, arguments = of_loss(cell)
    trainer = trainer_class(
        model=model,
        args=config_class(**common_arguments(cell, folder), **arguments, **dict(cell.overrides)),
        train_dataset=read_pairs(folder / "pairs.jsonl"),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder / "model"),
    )
    check_lengths(cell, trainer.train_dataset)
    return trainer


def check_lengths(cell: Cell, dataset: Any) -> None:
    """Raises RuntimeError where TRL's tokens are not as many as the other methods'."""
    for row, long in zip(dataset, lengths_of(cell).long_prompt):
        found = len(row["prompt_ids"] if "prompt_ids" in row else row["prompt_input_ids"])
        if found != long:
            raise RuntimeError(f"TRL reads {found} tokens where the other methods read {long:.0f}")


def of_loss(cell: Cell) -> tuple[type, type, dict[str, Any]]:
    """Trainer, its arguments' class, and the arguments that the loss needs."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if cell.loss == "sigmoid":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig, {"beta": 0.1, "precompute_ref_log_probs": True}
    if cell.loss == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig, {"beta": 0.1}
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return CPOTrainer, CPOConfig, {"beta": 2.5, "loss_type": "simpo", "cpo_alpha": 0.0}


def common_arguments(cell: Cell, folder: Path) -> dict[str, Any]:
    """Those of the host's run, under TRL's names."""
    return {
        "output_dir": str(folder / "output"),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": cell.accumulation,
        "max_steps": cell.steps,
        "gradient_checkpointing": True,
        "learning_rate": 0.0,
        "optim": "sgd",  # its step lies outside what is timed, and keeps no state
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": not cell.on_cpu,
        "use_cpu": cell.on_cpu,
        "max_length": 1 << 20,  # some of TRL's trainers cut at a length of their own where none is given
    }


def read_pairs(path: Path) -> Any:
    """The examples' long pairs, rendered, in their order."""
    from datasets import Dataset

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [
            {"prompt": HEAD + row["long_prompt"] + TAIL, "chosen": row["chosen"], "rejected": row["rejected"]}
            for row in rows
        ]
    )


if __name__ == "__main__":
    main()
