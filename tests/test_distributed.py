"""Two processes give what one gives, through the host's own launcher."""

import json
import os
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, FalconH1Config

from tests.helpers.runs import (
    ROOT,
    last_words,
    launch,
    make_rows,
    needs_compiler,
    read_logs,
    run_command,
    run_host,
    write_dataset,
)
from tests.model.test_probe import MAMBA, SHAPE


KEYS = ("loss", "grad_norm", "loss/po", "loss/solo_ra", "rewards/gap", "logps/chosen_long")


def assert_same_logs(ours: list[dict], expected: list[dict], rel: float = 1e-5) -> None:
    assert len(ours) == len(expected) > 0
    for log, other in zip(ours, expected):
        for key in KEYS:
            assert log[key] == pytest.approx(other[key], rel=rel, abs=1e-6), key


@pytest.fixture
def with_evaluation(arguments, tmp_path):
    """A run on 8 examples with an evaluation on 7, which neither 2 nor 4 divides."""
    write_dataset(tmp_path / "data", make_rows(8))
    write_dataset(tmp_path / "data", make_rows(7, seed=1), name="held_out")

    def build(name: str, **overrides) -> dict:
        return arguments(
            dataset_dir=str(tmp_path / "data"),
            eval_dataset="held_out",
            do_eval=True,
            disable_shuffling=True,
            pref_loss="sigmoid",
            max_steps=4,
            output_dir=str(tmp_path / name),
            **overrides,
        )

    return build


def evaluation(args: dict) -> dict:
    with open(os.path.join(args["output_dir"], "eval_results.json")) as file:
        return {key: value for key, value in json.load(file).items() if "runtime" not in key and "second" not in key}


def test_two_processes_equal_one(with_evaluation, tmp_path):
    """DDP: the global batch divides the data, and repeated rows at the end of the evaluation count once."""
    one = with_evaluation("one", per_device_train_batch_size=4, per_device_eval_batch_size=1, solopo_probe=3)
    run_host(one)
    two = with_evaluation("two", per_device_train_batch_size=2, per_device_eval_batch_size=4, solopo_probe=3)
    result = launch(two, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" not in result.stdout
    assert_same_logs(read_logs(two["output_dir"]), read_logs(one["output_dir"]))
    assert evaluation(two) == pytest.approx(evaluation(one), rel=1e-5, abs=1e-6)


def deepspeed_config(folder, stage: int, offload: bool = False) -> str:
    """The recipes' ZeRO-3, or ZeRO-2 as in the host's `ds_z2_config.json` and `ds_z2_offload_config.json`."""
    if stage == 3:
        return str(ROOT / "recipes/deepspeed/zero3.json")
    config = json.loads((ROOT / "recipes/deepspeed/zero3.json").read_text())
    config["zero_optimization"] = {
        "stage": 2,
        "allgather_partitions": True,
        "allgather_bucket_size": 5e8,
        "overlap_comm": False,
        "reduce_scatter": True,
        "reduce_bucket_size": 5e8,
        "contiguous_gradients": True,
        "round_robin_gradients": True,
    }
    if offload:
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    path = folder / "zero2.json"
    path.write_text(json.dumps(config))
    return str(path)


LORA = {"finetuning_type": "lora", "lora_rank": 4, "lora_target": "all", "learning_rate": 1e-2}
ATTENTION_LORA = {**LORA, "lora_target": "q_proj,v_proj"}


@needs_compiler
@pytest.mark.parametrize(
    "zero, tuning",
    [
        pytest.param((3, False), {}, id="ZeRO-3"),
        pytest.param((3, False), LORA, id="ZeRO-3 LoRA", marks=pytest.mark.slow),
        pytest.param((2, False), {}, id="ZeRO-2", marks=pytest.mark.slow),
        pytest.param((2, True), {}, id="ZeRO-2 offload", marks=pytest.mark.slow),
    ],
)
def test_deepspeed_equals_one_process(zero, tuning, arguments, tmp_path):
    """On the CPU in float32, with a reference model or, under LoRA, with the adapter off as reference."""
    common = {"pref_loss": "sigmoid", "solopo_reference": "matched", "disable_shuffling": True, **tuning}
    one = arguments(per_device_train_batch_size=4, output_dir=str(tmp_path / "one"), **common)
    run_host(one)
    sharded = arguments(
        per_device_train_batch_size=2,
        deepspeed=deepspeed_config(tmp_path, *zero),
        use_cpu=False,  # with it, DeepSpeed counts one process
        output_dir=str(tmp_path / "sharded"),
        **common,
    )
    # Reference log-probs are kept in HF_HOME: with its own, the sharded run computes them itself.
    result = launch(sharded, tmp_path / "launch", NPROC_PER_NODE="2", HF_HOME=str(tmp_path / "cache"))
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" not in result.stdout
    assert "Reference log-probs of 12 examples" in result.stdout + result.stderr
    assert_same_logs(read_logs(sharded["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("stage", [3, 2])
def test_the_probe_and_an_automatic_alpha_under_deepspeed(stage, with_evaluation, tmp_path):
    """Sharded weights are asked by transformers' generate, all processes together; both find one alpha."""
    common = {"solopo_probe": 3, "solopo_alpha": "auto"}
    one = with_evaluation("one", per_device_train_batch_size=4, **common)
    run_host(one)
    two = with_evaluation(
        "two", per_device_train_batch_size=2, deepspeed=deepspeed_config(tmp_path, stage), use_cpu=False, **common
    )
    result = launch(two, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, last_words(result)
    assert_same_logs(read_logs(two["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)
    alphas = [[log["alpha"] for log in read_logs(each["output_dir"])] for each in (one, two)]
    assert alphas[1] == pytest.approx(alphas[0], rel=1e-4)
    probed = [{key: value for key, value in evaluation(each).items() if "probe/" in key} for each in (one, two)]
    assert probed[0] == probed[1] and "probe/cut_off" in probed[0]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("stage", [3, 2])
def test_tiled_mlps_under_deepspeed(stage, arguments, tmp_path):
    """Rows of two tiles: a tile's gradient must wait for the other one before it is reduced."""
    rows = [{**row, "long_prompt": f"{row['long_prompt']} " * 130} for row in make_rows(4)]
    write_dataset(tmp_path / "data", rows)
    common = {"dataset_dir": str(tmp_path / "data"), "cutoff_len": 20_000, "disable_shuffling": True, "max_steps": 2}
    one = arguments(per_device_train_batch_size=2, output_dir=str(tmp_path / "one"), **common)
    run_host(one)
    tiled = arguments(
        per_device_train_batch_size=1,
        solopo_tiled_mlp=True,
        deepspeed=deepspeed_config(tmp_path, stage, False),
        use_cpu=False,
        output_dir=str(tmp_path / "tiled"),
        **common,
    )
    result = launch(tiled, tmp_path / "launch", NPROC_PER_NODE="2")
    assert result.returncode == 0, last_words(result)
    assert "MLPs work in 2 tiles" in result.stdout + result.stderr
    assert_same_logs(read_logs(tiled["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)


@pytest.fixture
def recurrent(tiny_qwen2, arguments, tmp_path):
    """Arguments of runs with a tiny Falcon-H1, whose rows are padded, on one process or `sharded` on two.

    Every second batch of a process has equal contexts only, and some short contexts are longer than the long ones, so that
    the groups of the two processes differ in all but their number.
    """
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    shape = {name: value for name, value in SHAPE.items() if name not in ("vocab_size", "pad_token_id")}
    config = FalconH1Config(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, head_dim=8, **shape, **MAMBA
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = make_rows(12)
    for i in (2, 3, 8, 9):
        rows[i]["long_prompt"] = rows[i]["short_prompt"]
    rows[5]["short_prompt"] = f"{rows[5]['long_prompt']} {rows[5]['long_prompt']}"
    write_dataset(tmp_path / "data", rows)

    def build(name: str, sharded: bool, **overrides) -> dict:
        return arguments(
            model_name_or_path=str(tmp_path / "model"),
            dataset_dir=str(tmp_path / "data"),
            per_device_train_batch_size=2 if sharded else 4,
            disable_shuffling=True,
            pref_loss="sigmoid",
            max_steps=3,
            output_dir=str(tmp_path / name),
            **overrides,
        )

    return build


@pytest.mark.parametrize(
    "zero, tuning",
    [
        pytest.param(None, {}, id="DDP"),
        pytest.param(None, {"use_reentrant_gc": False}, id="DDP no reentrant", marks=pytest.mark.slow),
        pytest.param(None, {"disable_gradient_checkpointing": True}, id="DDP no checkpoints", marks=pytest.mark.slow),
        pytest.param(
            None, {**ATTENTION_LORA, "gradient_accumulation_steps": 2}, id="DDP LoRA", marks=pytest.mark.slow
        ),
        *(
            pytest.param(zero, tuning, id=name, marks=[pytest.mark.slow, needs_compiler])
            for name, zero, tuning in [
                ("ZeRO-3", (3, False), {}),
                ("ZeRO-3 LoRA", (3, False), ATTENTION_LORA),
                ("ZeRO-2", (2, False), {}),
                ("ZeRO-2 accumulation", (2, False), {"gradient_accumulation_steps": 2}),
                ("ZeRO-2 offload", (2, True), {}),
            ]
        ),
    ],
)
def test_padded_groups_on_two_processes_equal_one(zero, tuning, recurrent, tmp_path):
    """Two backward passes are one step, whoever gathers weights and reduces gradients."""
    one = recurrent("one", sharded=False, **tuning)
    run_host(one)
    deepspeed = {} if zero is None else {"deepspeed": deepspeed_config(tmp_path, *zero), "use_cpu": False}
    two = recurrent("two", sharded=True, **tuning, **deepspeed)
    result = launch(two, tmp_path / "launch", NPROC_PER_NODE="2", HF_HOME=str(tmp_path / "cache"))
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" in result.stdout + result.stderr
    assert_same_logs(read_logs(two["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)


TRAIN_AND_WATCH_THE_REFERENCE = """
import json, os, sys
import solopo_llamafactory.train.assembly as assembly
from llamafactory.train.tuner import run_exp

create, step, models = assembly.create_ref_model, assembly.SolopoTrainer.training_step, []

def create_ref_model(*args):
    models.append(create(*args))
    return models[-1]

def training_step(self, *args, **kwargs):
    numbers = [p.untyped_storage().nbytes() + p.ds_tensor.untyped_storage().nbytes() for p in models[0].parameters()]
    line = f"REFERENCE BYTES {sum(numbers)} of {sum(p.ds_numel for p in models[0].parameters())}\\n"
    os.write(1, line.encode())  # at once: two processes write here
    return step(self, *args, **kwargs)

assembly.create_ref_model, assembly.SolopoTrainer.training_step = create_ref_model, training_step
run_exp(json.load(open(sys.argv[1])))
"""


@needs_compiler
@pytest.mark.slow
def test_the_reference_has_no_memory_under_zero3(arguments, tmp_path):
    """DeepSpeed's globals hold the module for good, so its weights must go."""
    args = arguments(pref_loss="sigmoid", deepspeed=deepspeed_config(tmp_path, 3, False), use_cpu=False)
    (tmp_path / "config.json").write_text(json.dumps(args))
    (tmp_path / "watch.py").write_text(TRAIN_AND_WATCH_THE_REFERENCE)
    result = run_command(
        ["torchrun", "--standalone", "--nproc_per_node", "2"]
        + [str(tmp_path / "watch.py"), str(tmp_path / "config.json")],
        HF_HOME=str(tmp_path / "cache"),
        TORCH_DEVICE_BACKEND_AUTOLOAD="1",
    )
    assert result.returncode == 0, last_words(result)
    seen = re.findall(r"REFERENCE BYTES (\d+) of (\d+)", result.stdout)
    assert len(seen) == 2 * 3 and int(seen[0][1]) > 1000
    assert {number for number, _ in seen} == {"0"}


# The host's examples/accelerate/fsdp2_config.yaml, in float32.
FSDP2 = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "fsdp_config": {
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_offload_params": False,
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT",
        "fsdp_version": 2,
    },
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
    "use_cpu": False,
}


def launch_fsdp2(args: dict, folder):
    (folder / "fsdp2.yaml").write_text(json.dumps(FSDP2))
    (folder / "config.yaml").write_text(json.dumps(args))
    return run_command(
        ["accelerate", "launch", "--config_file", str(folder / "fsdp2.yaml"), "--main_process_port", "0"]
        + [str(ROOT / "tests/helpers/fsdp_on_cpu.py"), str(folder / "config.yaml")],
        HF_HOME=str(folder / "cache"),
    )


@pytest.mark.slow
def test_padded_groups_under_fsdp2_equal_one_process(recurrent, tmp_path):
    one = recurrent("one", sharded=False)
    run_host(one)
    two = recurrent("two", sharded=True)
    result = launch_fsdp2(two, tmp_path)
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" in result.stdout + result.stderr
    assert_same_logs(read_logs(two["output_dir"]), read_logs(one["output_dir"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [pytest.param({}, id="full"), pytest.param(LORA, id="LoRA")])
def test_fsdp2_equals_one_process(tuning, arguments, tmp_path):
    """FSDP1 saves no model on a CPU: torch ends there in a segmentation fault."""
    common = {"pref_loss": "sigmoid", "disable_shuffling": True, **tuning}
    one = arguments(per_device_train_batch_size=4, output_dir=str(tmp_path / "one"), **common)
    run_host(one)
    sharded = arguments(per_device_train_batch_size=2, output_dir=str(tmp_path / "sharded"), **common)
    result = launch_fsdp2(sharded, tmp_path)
    assert result.returncode == 0, last_words(result)
    assert "Using padded batches" not in result.stdout
    assert "Reference log-probs of 12 examples" in result.stdout + result.stderr
    assert_same_logs(read_logs(sharded["output_dir"]), read_logs(one["output_dir"]))
    name = "adapter_model.safetensors" if tuning else "model.safetensors"
    saved, expected = (load_file(tmp_path / folder / name) for folder in ("sharded", "one"))
    assert saved.keys() >= expected.keys()  # FSDP2 writes a tied head as well
    assert all(torch.allclose(saved[key], expected[key], atol=1e-5) for key in expected)
