"""What a cell trains: a folder with a model's shape, a tokenizer of words, examples, and the run's arguments."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from solopo_llamafactory.data.sequences import Lengths

from .cells import JITTER, SHAPES, SHORT_PROMPT, TINY_FACTOR, Cell


ROOT = Path(__file__).resolve().parent.parent
NUM_WORDS = 2000
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
TEMPLATE = "chatml"
TEMPLATE_TOKENS = 5  # <|im_start|> user ... <|im_end|> <|im_start|> assistant; line breaks are no tokens here
COLUMNS = {"chosen": "chosen", "rejected": "rejected"}


def lengths_of(cell: Cell) -> Lengths:
    """Token counts of the cell's examples in the order of training, the same for every method."""
    rng = random.Random(0)
    answer, short_limit = cell.answer, SHORT_PROMPT // (TINY_FACTOR if cell.on_cpu else 1)
    short, long = [], []
    for _ in range(cell.steps * cell.accumulation * cell.gpus):
        short.append(short_limit - rng.randint(0, int(JITTER * short_limit)))
        total = cell.length - rng.randint(0, int(cell.jitter * cell.length))
        long.append(total - total % cell.multiple - answer)
    return Lengths(*(np.array(column, dtype=float) for column in (short, long, *[[answer] * len(short)] * 2)))


def write_workload(cell: Cell, folder: Path) -> dict[str, Any]:
    """Write model, tokenizer and data to `folder` and return the arguments of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(cell.shape, folder / "model")
    rows = examples(lengths_of(cell))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {
        "solopo": {
            "file_name": "pairs.jsonl",
            "formatting": "solopo",
            "ranking": True,
            "columns": {"prompt": "short_prompt", "long_prompt": "long_prompt", **COLUMNS},
        },
        "long": {"file_name": "pairs.jsonl", "ranking": True, "columns": {"prompt": "long_prompt", **COLUMNS}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return arguments_of(cell, folder)


def write_model(shape: str, folder: Path) -> None:
    """A configuration without weights, and a tokenizer for which a word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL_TOKENS, "user", "assistant", *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
    ).save_pretrained(folder)
    architecture = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[SHAPES[shape]["model_type"]]
    config = {
        **SHAPES[shape],
        "architectures": [architecture],
        "max_position_embeddings": 1 << 20,
        "tie_word_embeddings": shape == "smollm2-135m",
        "dtype": "float32" if shape == "tiny" else "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def vocabulary() -> list[str]:
    return [f"w{i}" for i in range(NUM_WORDS)]


def examples(lengths: Lengths) -> list[dict[str, str]]:
    """Random words, as many as give the wanted numbers of tokens."""
    rng = random.Random(1)
    words = vocabulary()

    def text(tokens: float) -> str:
        return " ".join(rng.choices(words, k=int(tokens)))

    columns = (lengths.short_prompt, lengths.long_prompt, lengths.chosen, lengths.rejected)
    return [
        {
            "short_prompt": text(short - TEMPLATE_TOKENS),
            "long_prompt": text(long - TEMPLATE_TOKENS),
            "chosen": text(chosen - 1),
            "rejected": text(rejected - 1),
        }
        for short, long, chosen, rejected in zip(*columns)
    ]


def config_of(cell: Cell) -> SimpleNamespace:
    """What `cost.ModelShape.of` reads of the model's configuration."""
    return SimpleNamespace(**SHAPES[cell.shape])


def arguments_of(cell: Cell, folder: Path) -> dict[str, Any]:
    """The host's arguments for a run of the cell on the workload in `folder`."""
    arguments = {
        "stage": "dpo" if cell.method == "host" else "solopo",
        "do_train": True,
        "pref_loss": cell.loss,
        "pref_beta": 2.5 if cell.loss == "simpo" else 0.1,
        "finetuning_type": cell.finetuning,
        "model_name_or_path": str(folder / "model"),
        "train_from_scratch": True,
        "flash_attn": "sdpa",
        "template": TEMPLATE,
        "dataset": "long" if cell.method == "host" else "solopo",
        "dataset_dir": str(folder),
        "cutoff_len": cell.length + 64,
        "overwrite_cache": True,
        "disable_shuffling": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": cell.accumulation,
        "max_steps": cell.steps,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "output_dir": str(folder / "output"),
    }
    if cell.method == "long":
        arguments["solopo_view"] = "long"
    if cell.method == "solopo" and cell.loss == "sigmoid":
        arguments["solopo_reference"] = "matched"  # the dearer one: a pass over three sequences instead of two
    if cell.on_cpu:
        arguments["use_cpu"] = True
    elif cell.uses_deepspeed:
        arguments |= {"bf16": True, "deepspeed": "recipes/deepspeed/zero3.json"}
    else:
        # The step of plain SGD lies outside what is timed, and keeps no state.
        arguments |= {"pure_bf16": True, "optim": "sgd", "learning_rate": 0.0}
    return arguments | dict(cell.overrides)
