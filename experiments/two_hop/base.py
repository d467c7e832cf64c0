"""The miniature's base model: taught two-hop look-up on short contexts by LLaMA-Factory's own `stage: sft`."""

import json
import random
from pathlib import Path

from llamafactory.train.tuner import run_exp

from solopo_llamafactory.common.files import atomic_writer, write_json
from solopo_llamafactory.questions.sources.two_hop import World
from solopo_llamafactory.questions.wording import WORDINGS

from .model import JOINTS, LEADS, make_model, make_tokenizer


FACTS = (12, 24, 32)  # documents of a context, from stage to stage: 32 of them make a prompt of 137 tokens
REVISION = 0.4  # share of a stage's examples that have an earlier stage's number of documents
QUESTIONS = 6  # asked about one context, at most
BATCH_SIZE = 32
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def make_base(output: Path, seed: int = 0, steps: int = 500) -> None:
    """Write a base model with its tokenizer to `output`/model, in float32; what it was made from stays beside it."""
    tokenizer = make_tokenizer()
    make_model(tokenizer, hidden_size=128, num_layers=2, seed=seed).save_pretrained(output / "fresh")
    tokenizer.save_pretrained(output / "fresh")
    write_conversations(output / "sft.jsonl", steps * BATCH_SIZE, seed)
    columns = {"messages": "messages"}
    entry = {"file_name": "sft.jsonl", "formatting": "sharegpt", "columns": columns, "tags": TAGS}
    write_json(output / "dataset_info.json", {"sft": entry})
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": str(output / "fresh"),
            "disable_gradient_checkpointing": True,
            "template": "chatml",
            "finetuning_type": "full",
            "dataset": "sft",
            "dataset_dir": str(output),
            "disable_shuffling": True,  # stages follow each other
            "cutoff_len": 1024,
            "per_device_train_batch_size": BATCH_SIZE,
            "num_train_epochs": 1,
            "learning_rate": 2e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 100,
            "adam_beta2": 0.98,
            "weight_decay": 0.01,
            "logging_steps": 25,
            "save_strategy": "no",
            "report_to": "none",
            "seed": seed,
            "output_dir": str(output / "model"),
            "overwrite_output_dir": True,
        }
    )


def write_conversations(path: Path, count: int, seed: int) -> None:
    """Contexts that grow from stage to stage, each with several questions and their answers."""
    rng = random.Random(f"base|{seed}")
    with atomic_writer(path) as file:
        for i in range(count):
            stage = i * len(FACTS) // count
            if rng.random() < REVISION:
                stage = rng.randrange(stage + 1)
            file.write(json.dumps({"messages": make_conversation(rng, FACTS[stage])}) + "\n")


def make_conversation(rng: random.Random, num_facts: int) -> list[dict]:
    """One context and all that is asked about it, as chat messages."""
    world = World(rng, num_facts, num_questions=min(QUESTIONS, num_facts // 3 - 1))
    documents = [world.document(*key) for key in world.facts]
    rng.shuffle(documents)
    prompt = WORDINGS["cot"].prompt
    messages = []
    for second, first, subject in world.asked:
        question = f"{second} {first} {subject}"
        middle = world.facts[first, subject]
        city = world.facts[second, middle]
        answer = f"{rng.choice(LEADS)} {first} {subject} {middle} {rng.choice(JOINTS)} {second} {middle} {city}"
        messages += [
            {"role": "user", "content": f"Question: {question}" if messages else prompt(documents, question)},
            {"role": "assistant", "content": answer},
        ]
    return messages
