"""lm-evaluation-harness for real: names and commands of the recipes, and a run whose result `solopo compare` reads."""

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from solopo_llamafactory.cli import main
from solopo_llamafactory.evaluate.compare import AVERAGES
from tests.helpers.runs import ROOT, command_environment


pytest.importorskip("lm_eval")

RECIPES = ROOT / "recipes" / "eval" / "lm_eval"
CONFIGS = sorted(RECIPES.glob("*.yaml"))
TASK = Path(__file__).parent / "lm_eval_task"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def installed_tasks() -> dict[str, str]:
    """The text of each task's or group's file among our families, by its name; the harness's own index takes longer."""
    tasks = {}
    package = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
    for family in ("ruler", "longbench", "longbench2", "leaderboard"):
        for path in (package / family).rglob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            tasks |= dict.fromkeys(re.findall(r"^(?:task|group): *(\S+) *$", text, re.MULTILINE), text)
    return tasks


def commands() -> list[list[str]]:
    """The words of every lm_eval command of the recipes, as bash makes them."""
    headers = [path.read_text().splitlines()[0].removeprefix("# ") for path in CONFIGS]
    blocks = re.findall(r"^```bash\n(.*?)^```$", (RECIPES / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    print_words = "lm_eval() { printf '%s\\n' lm_eval \"$@\"; echo; }; solopo() { :; }"
    script = "\n".join([print_words, *headers, *blocks])
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return [command.splitlines() for command in done.stdout.strip().split("\n\n")]


def test_all_recipes_are_there():
    assert {path.stem for path in CONFIGS} == {"ruler", "longbench_qa", "longbench_v2", "open_llm_leaderboard"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_tasks_of_a_recipe_exist(path):
    tasks = yaml.safe_load(path.read_text())["tasks"]
    assert tasks and set(tasks) <= installed_tasks().keys()


def test_the_tasks_and_metrics_of_the_table_exist():
    installed = installed_tasks()
    for tasks in AVERAGES.values():
        assert tasks.keys() <= installed.keys()
        for task, metrics in tasks.items():
            if task == "longbench2":  # the parts, by their common file
                continue
            for metric in metrics or ():
                assert re.search(rf'metric: "?{metric}"?$', installed[task], re.MULTILINE), (task, metric)


def test_the_recipes_measure_what_the_table_averages():
    recipes = {task for path in CONFIGS for task in yaml.safe_load(path.read_text())["tasks"]}
    for column in ("LongBench QA", "RULER QA", "RULER NIAH", "LongBench v2"):
        assert AVERAGES[column].keys() <= recipes


def test_the_harness_understands_every_command(monkeypatch, capsys):
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.config.evaluate_config import EvaluatorConfig

    monkeypatch.chdir(ROOT)
    assert len(commands()) == 13
    for command in commands():
        monkeypatch.setattr("sys.argv", command)
        config = EvaluatorConfig.from_cli(HarnessCLI().parse_args())
        arguments = config.model_args
        assert arguments["pretrained"] and arguments["dtype"] == "bfloat16" and config.apply_chat_template is True
        assert config.output_path.startswith("saves/lm_eval/") and config.tasks
        lengths = config.metadata.get("max_seq_lengths", [])
        assert all(length < arguments["max_length"] for length in lengths)
        scaled = arguments.get("rope_parameters") or arguments.get("hf_overrides", {}).get("rope_parameters")
        assert bool(scaled) == (max(lengths, default=0) > 32768 or config.model == "vllm")
        if scaled:
            assert scaled == {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32768,
                "rope_theta": 1e6,
            }
    capsys.readouterr()


def test_yarn_reaches_the_model(tiny_qwen2):
    """`rope_parameters` of --model_args, as the recipe writes it, scales the frequencies."""
    from transformers import AutoModelForCausalLM

    (command,) = [part for command in commands() for part in command if part.startswith("rope_parameters=")][:1]
    yarn = json.loads(command.removeprefix("rope_parameters="))
    plain = AutoModelForCausalLM.from_pretrained(tiny_qwen2).model.rotary_emb
    scaled = AutoModelForCausalLM.from_pretrained(tiny_qwen2, rope_parameters=yarn).model.rotary_emb
    assert scaled.rope_type == "yarn" and scaled.attention_scaling > 1 == plain.attention_scaling
    assert scaled.inv_freq[-1] < plain.inv_freq[-1]


@pytest.fixture(scope="module")
def models(tiny_qwen2, tmp_path_factory) -> dict[str, dict[str, str]]:
    """Model arguments of a tiny model with a chat template and of a LoRA adapter on it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, adapter = (str(tmp_path_factory.mktemp(name)) for name in ("base", "adapter"))
    model = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    tokenizer.chat_template = CHATML
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    config = LoraConfig(
        r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(model, config).save_pretrained(adapter)
    return {"base": {"pretrained": base}, "trained": {"pretrained": base, "peft": adapter}}


def greedy_answer(arguments: dict[str, str], prompt: str) -> str:
    """What the model says to a prompt: eight tokens at most."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments["pretrained"])
    model = AutoModelForCausalLM.from_pretrained(arguments["pretrained"])
    if "peft" in arguments:
        model = PeftModel.from_pretrained(model, arguments["peft"])
    messages = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.split("\n\n")[0].strip()


@pytest.fixture(scope="module")
def rows(models) -> list[dict]:
    """One question with the base model's own answer as gold, two with the trained one's, one that nobody answers."""
    contexts = ["The ferry to Hald leaves at noon.", "Ida paints doors.", "The mill has burnt down.", "Snow fell."]
    rows = [{"context": context, "question": "What happened?", "answers": ["never \x00 said"]} for context in contexts]
    for row, name in zip(rows, ("base", "trained", "trained"), strict=False):
        prompt = f"{row['context']}\n\nQuestion: {row['question']}\nAnswer:"
        answers = {name: greedy_answer(arguments, prompt) for name, arguments in models.items()}
        assert answers[name] and answers[name] not in answers["base" if name == "trained" else "trained"]
        row["answers"].append(answers[name])
    return rows


def test_a_run_of_the_harness_reaches_the_table(models, rows, tmp_path, monkeypatch, capsys):
    """Base and LoRA adapter, chat template on, offline."""
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, arguments in models.items():
        tracker = EvaluationTracker(output_path=name)
        results = simple_evaluate(
            model="hf",
            model_args={**arguments, "dtype": "float32"},
            device="cpu",
            tasks=["solopo_reading"],
            task_manager=TaskManager(include_path=str(TASK), include_defaults=False),
            apply_chat_template=True,
            log_samples=False,
            evaluation_tracker=tracker,
        )
        tracker.save_results_aggregated(results)
    capsys.readouterr()
    assert main(["compare", "base=base", "trained=trained"]) == 0
    page = capsys.readouterr().out
    # Of four questions, with the standard error of a mean of four.
    assert "| solopo_reading | score | 25.0 ± 25.0 | 50.0 ± 28.9 |" in page
    assert "differ" not in page


@pytest.mark.slow
def test_the_command_with_a_recipe_reaches_the_table(models, rows, tmp_path):
    """`lm_eval run --config`, all but the task, the device and the precision as in the recipe, offline."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = command_environment(
        HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(tmp_path / "home"), CUDA_VISIBLE_DEVICES=""
    )
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment["PYTHONPATH"]])
    command = ["lm_eval", "run", "--config", str(RECIPES / "longbench_qa.yaml"), "--output_path", "trained"]
    command += ["--tasks", "solopo_reading", "--include_path", str(TASK), "--device", "cpu"]
    command += ["--model_args", "dtype=float32", *(f"{key}={value}" for key, value in models["trained"].items())]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    command = ["solopo", "compare", "trained=trained"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "| solopo_reading | score | 50.0 ± 28.9 |" in done.stdout
