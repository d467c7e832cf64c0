"""A loss that is no number: the examples are named once, and the step is left out or the run stops, in all processes."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from solopo_llamafactory.train.nonfinite import NonfiniteLosses
from tests.helpers.runs import make_rows, needs_compiler, run_forked, run_host, write_dataset
from tests.test_distributed import deepspeed_config


POISON = "~"  # a token of its own


@pytest.fixture
def poisoned(arguments, tiny_qwen2, tmp_path):
    """Runs on 8 examples; the model knows no number for a token of `example-5`, which the third batch of 2 holds."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(tiny_qwen2)
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen2)
    (token,) = tokenizer.encode(POISON, add_special_tokens=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = math.nan
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")

    rows = make_rows(8)
    write_dataset(tmp_path / "data", rows[:4] + rows[6:], name="without")  # the third batch
    rows[5]["short_prompt"] += POISON
    write_dataset(tmp_path / "data", rows)

    def build(name: str = "output", **overrides) -> dict:
        common = {
            "model_name_or_path": str(tmp_path / "model"),
            "dataset_dir": str(tmp_path / "data"),
            "output_dir": str(tmp_path / name),
            "disable_shuffling": True,
            "solopo_nonfinite": "skip",
            "lr_scheduler_type": "constant",
            "weight_decay": 0.1,
            "max_steps": 4,
        }
        return arguments(**common | overrides)

    return build


def run(args: dict) -> list[dict]:
    run_host(args)
    return all_logs(args)


def all_logs(args: dict) -> list[dict]:
    with open(f"{args['output_dir']}/trainer_state.json") as file:
        return [log for log in json.load(file)["log_history"] if "learning_rate" in log]


def test_it_stops_and_names_the_example_and_no_other(poisoned):
    args = poisoned(save_strategy="steps", save_steps=2)
    del args["solopo_nonfinite"]  # the default
    with pytest.raises(ValueError, match="at step 3 for example `example-5`: ") as error:
        run_host(args)
    assert "\n" not in str(error.value) and "example-4" not in str(error.value)


def test_examples_without_ids_are_named_by_file_and_line(poisoned, tmp_path):
    rows = make_rows(8)
    rows[5]["short_prompt"] += POISON
    write_dataset(tmp_path / "data", [{k: v for k, v in row.items() if k != "id"} for row in rows])
    with pytest.raises(ValueError, match="for example `pairs.jsonl line 6`"):
        run_host(poisoned(solopo_nonfinite="stop"))


@pytest.mark.parametrize("pref_loss", ["orpo", "sigmoid"])
def test_a_step_left_out_is_a_step_that_never_was(pref_loss, poisoned):
    """The losses that follow are those of a run without its examples, so weights and optimizer state are too."""
    common = {"pref_loss": pref_loss, "solopo_precompute_ref": False}
    expected = run(poisoned("without", dataset="without", max_steps=3, **common))
    logs = run(poisoned(**common))
    assert [log["steps_skipped"] for log in logs] == [0, 0, 1, 0]
    left_out = logs.pop(2)
    assert not {"loss", "loss/po", "rewards/gap", "grad_norm"} & left_out.keys()
    for ours, theirs in zip(logs, expected, strict=True):
        assert {**ours, "step": 0, "epoch": 0} == {**theirs, "step": 0, "epoch": 0}


def test_weights_and_optimizer_are_the_same_on_disk_and_the_schedule_moves_on(poisoned, tmp_path):
    logs = run(poisoned(save_strategy="steps", save_steps=1, lr_scheduler_type="linear"))
    before, after = (tmp_path / "output" / f"checkpoint-{step}" for step in (2, 3))
    for name, tensor in load_file(before / "model.safetensors").items():
        assert torch.equal(tensor.nan_to_num(7), load_file(after / "model.safetensors")[name].nan_to_num(7)), name
    states = [torch.load(folder / "optimizer.pt", weights_only=True)["state"] for folder in (before, after)]
    for key, state in states[0].items():
        assert all(torch.equal(value, states[1][key][name]) for name, value in state.items())
    assert [log["learning_rate"] for log in logs] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_accumulation_leaves_out_the_whole_step(poisoned):
    """The poisoned micro-batch is the second of its step's two; the first one's gradient must go with it."""
    one = run(poisoned("2x1", logging_steps=4))
    two = run(poisoned("1x2", logging_steps=4, per_device_train_batch_size=1, gradient_accumulation_steps=2))
    for key in ("loss", "loss/po", "logps/chosen"):
        assert two[0][key] == pytest.approx(one[0][key], rel=1e-5)
    assert two[0]["steps_skipped"] == 1


def test_the_log_is_the_mean_of_the_steps_taken(poisoned):
    each = run(poisoned("each", max_steps=8))
    every = poisoned("every", max_steps=8, logging_steps=8)
    (mean,) = run(every)
    taken = [log for log in each if "loss" in log]
    assert len(taken) == 6 and mean["steps_skipped"] == 2
    for key in ("loss", "loss/solo_ra", "rewards/chosen"):
        assert mean[key] == pytest.approx(sum(log[key] for log in taken) / 6, rel=1e-5)
    with open(f"{every['output_dir']}/train_results.json") as file:
        assert json.load(file)["train_loss"] == pytest.approx(mean["loss"], rel=1e-5)


def test_the_example_is_named_once_over_all_epochs(poisoned, monkeypatch):
    from solopo_llamafactory.train import nonfinite

    said = []
    monkeypatch.setattr(nonfinite.logger, "warning_rank0", said.append)
    run(poisoned(max_steps=8))
    (sentence,) = [each for each in said if "example-5" in each]
    assert "at step 3 for example `example-5`" in sentence and "\n" not in sentence


def test_broken_weights_end_the_run(poisoned, tmp_path):
    """Skipping must not go on to the end of days."""
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.norm.weight"][0] = math.inf
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="examples `example-0`, `example-1`: look at"):
        run_host(poisoned(solopo_nonfinite="stop"))
    with pytest.raises(ValueError, match="11 steps in a row, at step 11 .* earlier checkpoint"):
        run_host(poisoned(max_steps=40))


def test_the_innermost_optimizer_is_not_stepped():
    """DeepSpeed steps the optimizer inside its own inside accelerate's, without asking the trainer."""
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    inner = torch.optim.SGD([weight], lr=0.5)
    losses = NonfiniteLosses(skip=True, device=torch.device("cpu"))
    losses.on_train_begin(None, None, None, optimizer=SimpleNamespace(optimizer=SimpleNamespace(optimizer=inner)))
    for value, expected in ((math.nan, 1.0), (0.1, 0.5)):
        losses.on_step_begin(None, None, None)
        losses.check(["a"], [value], last=True, step=1)
        inner.step()
        losses.on_step_end(None, None, None)
        assert weight.item() == expected


FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def two_processes(args: dict, mode: str, folder) -> dict:
    job = {"args": args, "processes": 2}
    if mode == "FSDP2":
        job["environment"] = FSDP2
    elif mode != "DDP":
        job["environment"] = {"ACCELERATE_USE_DEEPSPEED": "true"}
        config = deepspeed_config(folder, int(mode[5]), "offload" in mode)
        job["args"] = args | {"deepspeed": config, "use_cpu": False}
    return job


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("mode", ["DDP", "ZeRO-2", "ZeRO-2 offload", "ZeRO-3", "FSDP2"])
def test_processes_agree(mode, poisoned, tmp_path):
    """One of two processes meets the example: both leave the step out, as one process does, or both stop."""
    common = {"per_device_train_batch_size": 1, "max_steps": 6}
    jobs = {
        f"accumulation-{count}": two_processes(
            poisoned(f"two-{count}", gradient_accumulation_steps=count, **common), mode, tmp_path
        )
        for count in (1, 2)
    }
    jobs["stop"] = two_processes(poisoned("stop", solopo_nonfinite="stop", **common), mode, tmp_path)
    codes = run_forked(jobs, tmp_path / "runs")
    assert codes == {"accumulation-1": [0, 0], "accumulation-2": [0, 0], "stop": [1, 1]}
    for count in (1, 2):
        assert (tmp_path / "runs" / f"accumulation-{count}.log").read_text().count("for example `example-5`") == 1
        expected = run(poisoned(f"one-{count}", per_device_train_batch_size=2 * count, max_steps=6))
        logs = all_logs(jobs[f"accumulation-{count}"]["args"])
        assert [log["steps_skipped"] for log in logs] == [log["steps_skipped"] for log in expected]
        assert 0 < sum(log["steps_skipped"] for log in logs) < 6
        for ours, theirs in zip(logs, expected, strict=True):
            for key in ("loss", "loss/po", "logps/chosen", "learning_rate"):
                value = pytest.approx(theirs.get(key, math.nan), rel=1e-4, nan_ok=True)
                assert ours.get(key, math.nan) == value, (key, ours["step"])
    sentence = "ValueError: The loss is not a finite number at step 3 for example `example-5`: look at"
    assert (tmp_path / "runs" / "stop.log").read_text().count(sentence) == 2
