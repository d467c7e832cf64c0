"""Real questions from contexts to a training run: killed in the middle, resumed, and again through a server."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.run import run_build
from tests.helpers.questions import MUSIQUE, ROOT
from tests.helpers.runs import command_environment, read_logs, run_host
from tests.helpers.servers import host_api


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here"),
]
SAYINGS = ["Vorn", "Quell", "Brass", "Tamsin"]
PAIRS, HELD_OUT = 10, 3


@pytest.fixture(scope="module")
def guessing_model(qwen_tokenizer, tmp_path_factory) -> str:
    """A tiny model that has learnt to answer every question with one of the sayings, at random."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer)
    model = AutoModelForCausalLM.from_pretrained(qwen_tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    text = tokenizer.encode(MUSIQUE.read_text(encoding="utf-8")[:200_000])
    turn = tokenizer.encode("Which?<|im_end|>\n<|im_start|>assistant\n")
    rng = random.Random(0)
    for step in range(240):
        start = rng.randrange(len(text) - 2000)
        prompt = text[start : start + rng.randint(200, 2000)] + turn
        answer = tokenizer.encode(f"The answer is {rng.choice(SAYINGS)}.<|im_end|>")
        tokens, labels = torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])
        model(input_ids=tokens, labels=labels).loss.backward()
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    folder = str(tmp_path_factory.mktemp("guessing"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> str:
    """MuSiQue's records, where a saying counts as an alias of the answer."""
    path = tmp_path_factory.mktemp("questions") / "musique.jsonl"
    records = map(json.loads, MUSIQUE.read_text(encoding="utf-8").splitlines())
    lines = [
        json.dumps({**record, "answer_aliases": [*record["answer_aliases"], SAYINGS[i % len(SAYINGS)]]})
        for i, record in enumerate(records)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def config(tmp_path, questions, guessing_model):
    def make(name: str, **changes) -> dict:
        return {
            "source": "musique",
            "input": questions,
            "output": str(tmp_path / name / "pairs.jsonl"),
            "tokenizer": guessing_model,
            "template": "qwen",
            "short_tokens": 2000,
            "long_tokens": 5000,
            "n": 6,
            "samples_per_call": 2,
            "max_new_tokens": 24,
            "num_contexts": 60,
            "num_examples": PAIRS,
            "num_held_out": HELD_OUT,
            "dataset_info": str(tmp_path / name / "dataset_info.json"),
            **changes,
        }

    return make


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(folder: Path) -> None:
    """Pairs within the budgets, right and wrong as they should be, and a page about them."""
    pairs, held_out = read(folder / "pairs.jsonl"), read(folder / "pairs_heldout.jsonl")
    assert (len(pairs), len(held_out)) == (PAIRS, HELD_OUT)
    for pair in pairs + held_out:
        meta = json.loads(pair["meta"])
        saying = next(answer for answer in meta["answers"] if answer in SAYINGS)
        assert saying in pair["chosen"] and saying not in pair["rejected"]
        assert meta["tokens"]["short"] <= 2000 and 4900 <= meta["tokens"]["long"] <= 5000
    assert "MuSiQue" in (folder / "pairs.build" / "report.html").read_text(encoding="utf-8")


def test_a_killed_build_goes_on_to_the_same_bytes_and_trains(tmp_path, config, guessing_model):
    run_build(BuildArguments(**config("whole")))
    check(tmp_path / "whole")

    (tmp_path / "killed.yaml").write_text(json.dumps(config("killed")))  # JSON is YAML
    command = ["solopo", "build", str(tmp_path / "killed.yaml")]
    environment = command_environment()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    samples = tmp_path / "killed" / "pairs.build" / "samples.jsonl"
    while not samples.exists() or samples.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = samples.read_bytes()
    assert not (tmp_path / "killed" / "pairs.jsonl").exists()

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is there already" in done.stderr and samples.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    for name in ("pairs.jsonl", "pairs_heldout.jsonl", "pairs.build/contexts.jsonl", "pairs.build/samples.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    run_host(
        {
            "stage": "solopo",
            "do_train": True,
            "model_name_or_path": guessing_model,
            "template": "qwen",
            "finetuning_type": "full",
            "pref_loss": "orpo",
            "dataset": "pairs",
            "eval_dataset": "pairs_heldout",
            "do_eval": True,
            "dataset_dir": str(tmp_path / "killed"),
            "cutoff_len": 5100,
            "max_steps": 2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "output_dir": str(tmp_path / "trained"),
        }
    )
    assert len(read_logs(str(tmp_path / "trained"))) == 2
    assert (tmp_path / "trained" / "eval_results.json").is_file()


def test_through_the_hosts_server(tmp_path, config, guessing_model):
    with host_api(guessing_model, tmp_path / "api.log") as url:
        server = {"infer_backend": "openai", "base_url": url, "model_name_or_path": "any", "concurrency": 2}
        run_build(BuildArguments(**config("served", **server)))
    check(tmp_path / "served")
