"""Training runs through the host's entry point: equal to the host's own stage, to themselves, and told honestly."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from solopo_llamafactory.model import tiling
from tests.helpers.runs import make_rows, read_logs, run_host, write_dataset


LOSSES = {
    "orpo": {"pref_beta": 0.1},
    "simpo": {"pref_beta": 2.0, "simpo_gamma": 0.5},
    "sigmoid": {"pref_beta": 0.1},
    "sigmoid, smoothed": {"pref_loss": "sigmoid", "dpo_label_smoothing": 0.1},
    "sigmoid with SFT": {"pref_loss": "sigmoid", "pref_ftx": 0.5},
}


def losses(logs: list[dict]) -> list[float]:
    return [log["loss"] for log in logs]


@pytest.mark.parametrize("name", LOSSES)
def test_without_alignment_it_is_the_hosts_dpo_stage(name, train, tmp_path):
    """alpha = 0 on the short view, step for step. Later steps also prove the gradients equal."""
    overrides = {"pref_loss": name, "max_steps": 4, **LOSSES[name]}
    ours = train(solopo_alpha=0, output_dir=str(tmp_path / "ours"), **overrides)
    host = train(stage="dpo", dataset="pairs_short", output_dir=str(tmp_path / "host"), **overrides)
    assert len(ours) == 4
    assert losses(ours) == pytest.approx(losses(host), rel=1e-5)
    assert [log["grad_norm"] for log in ours] == pytest.approx([log["grad_norm"] for log in host], rel=1e-4)


@pytest.mark.parametrize("view", ["long", "short"])
@pytest.mark.parametrize("pref_loss", ["orpo", "sigmoid"])
def test_a_single_view_is_the_hosts_dpo_stage_on_its_prompts(pref_loss, view, train, tmp_path):
    """With a reference, it reads the context that is trained on, whatever `solopo_reference` says, cached or live."""
    host = train(stage="dpo", dataset=f"pairs_{view}", pref_loss=pref_loss, output_dir=str(tmp_path / "host"))
    choices = [{}]
    if pref_loss == "sigmoid":
        choices += [{"solopo_reference": "matched"}, {"solopo_precompute_ref": False}]
    for i, choice in enumerate(choices):
        ours = train(solopo_view=view, pref_loss=pref_loss, output_dir=str(tmp_path / f"ours-{i}"), **choice)
        assert losses(ours) == pytest.approx(losses(host), rel=1e-5)


@pytest.mark.parametrize("pref_loss", ["orpo", "simpo", "sigmoid", "hinge", "ipo"])
def test_logged_parts_add_up(pref_loss, train):
    logs = train(pref_loss=pref_loss, solopo_alpha=2.0, solopo_gradient="both", solopo_allow_unbounded=True)
    for log in logs:
        assert log["loss"] == pytest.approx(log["loss/po"] + log["loss/solo_ra"], rel=1e-5)
        assert log["loss/solo_ra"] == pytest.approx(2 * log["rewards/gap"], rel=1e-5)
        assert log["rewards/margins"] == pytest.approx(log["rewards/chosen"] - log["rewards/rejected"], abs=1e-5)
    assert logs[-1]["rewards/gap"] > 0


def test_by_default_a_long_reward_that_leads_is_left_alone(train, tmp_path):
    """Example by example: the lag of the long reward, from the rewards that are logged, and no tenth of them is without."""
    logs = train(per_device_train_batch_size=1, max_steps=16, learning_rate=0.0)
    lags = [log["rewards/chosen"] - log["rewards/chosen_long"] for log in logs]
    assert [log["loss/solo_ra"] for log in logs] == pytest.approx([max(lag, 0) for lag in lags], rel=1e-4, abs=1e-6)
    assert [log["rewards/gap"] for log in logs] == pytest.approx([abs(lag) for lag in lags], rel=1e-4, abs=1e-6)
    assert min(lags) < 0 < max(lags)


def test_equal_contexts_have_no_alignment_loss(train, tmp_path):
    rows = [{**row, "long_prompt": row["short_prompt"]} for row in make_rows(6)]
    write_dataset(tmp_path / "equal", rows)
    logs = train(dataset_dir=str(tmp_path / "equal"))
    assert [log["loss/solo_ra"] for log in logs] == [0, 0, 0]


def test_references(train, tmp_path):
    """Matched: both rewards start at 0. Short: the long reward starts at the gap of the reference itself."""
    matched = train(pref_loss="sigmoid", solopo_reference="matched", output_dir=str(tmp_path / "matched"))
    short = train(pref_loss="sigmoid", output_dir=str(tmp_path / "short"))
    assert matched[0]["rewards/gap"] == 0
    assert short[0]["rewards/chosen"] == 0
    assert short[0]["rewards/gap"] > 0.01
    expected = 0.1 * (short[0]["logps/chosen_long"] - short[0]["logps/chosen"])
    assert short[0]["rewards/chosen_long"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solopo_gradient", ["long", "capped"])
def test_gradients_change_the_step_and_not_the_loss(solopo_gradient, train, tmp_path):
    both = train(solopo_alpha=10, solopo_gradient="both", output_dir=str(tmp_path / "both"))
    other = train(solopo_alpha=10, solopo_gradient=solopo_gradient, output_dir=str(tmp_path / "other"))
    assert other[0]["loss"] == both[0]["loss"]
    assert other[0]["grad_norm"] != pytest.approx(both[0]["grad_norm"], rel=1e-3)


def test_align_both_adds_the_rejected_answer(train, tmp_path):
    """The paper's formula counts both gaps; one-sided, a chosen answer that lags and a rejected one that leads."""
    common = {"solopo_align": "both", "per_device_train_batch_size": 1, "max_steps": 16, "learning_rate": 0.0}
    for gradient in ("both", "one_sided"):
        logs = train(solopo_gradient=gradient, output_dir=str(tmp_path / gradient), **common)
        leads = {
            name: [log[f"rewards/{name}_long"] - log[f"rewards/{name}"] for log in logs]
            for name in ("chosen", "rejected")
        }
        pairs = zip(leads["chosen"], leads["rejected"])
        counted = [
            abs(of_w) + abs(of_l) if gradient == "both" else max(-of_w, 0) + max(of_l, 0) for of_w, of_l in pairs
        ]
        assert [log["loss/solo_ra"] for log in logs] == pytest.approx(counted, rel=1e-4, abs=1e-6)
        assert min(leads["rejected"]) < 0 < max(leads["rejected"])


@pytest.mark.parametrize("pref_loss", ["orpo", "sigmoid"])
def test_accumulation_equals_a_larger_batch(pref_loss, train, tmp_path):
    overrides = {"pref_loss": pref_loss, "max_steps": 2, "disable_shuffling": True}
    one = train(per_device_train_batch_size=8, output_dir=str(tmp_path / "8x1"), **overrides)
    eight = train(
        per_device_train_batch_size=1, gradient_accumulation_steps=8, output_dir=str(tmp_path / "1x8"), **overrides
    )
    assert losses(eight) == pytest.approx(losses(one), rel=1e-5)
    assert eight[1]["rewards/gap"] == pytest.approx(one[1]["rewards/gap"], rel=1e-4)


def test_lora_uses_the_model_without_its_adapter_as_reference(train, tmp_path):
    write_dataset(tmp_path / "data", make_rows(2))
    logs = train(
        dataset_dir=str(tmp_path / "data"),
        pref_loss="sigmoid",
        finetuning_type="lora",
        learning_rate=1e-2,
        max_steps=8,
    )
    # At first the adapter adds nothing; then the policy moves and the reference does not.
    assert logs[0]["rewards/chosen"] == pytest.approx(0, abs=1e-6)
    assert logs[-1]["rewards/margins"] > 0.01
    assert logs[-1]["loss"] < logs[0]["loss"]


@pytest.mark.parametrize("solopo_tiled_mlp", [False, True])
def test_checkpoints_in_host_memory_change_nothing(solopo_tiled_mlp, train, tmp_path, monkeypatch):
    """The host's `use_unsloth_gc` brings them back to "cuda"; here that is the CPU."""
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *args, **kwargs: to(self, *("cpu" if a == "cuda" else a for a in args), **kwargs),
    )
    monkeypatch.setattr(tiling, "TILE", 200)
    common = {"solopo_tiled_mlp": solopo_tiled_mlp, "max_steps": 4}
    plain = train(output_dir=str(tmp_path / "plain"), **common)
    offloaded = train(use_unsloth_gc=True, output_dir=str(tmp_path / "offloaded"), **common)
    for key in ("loss", "grad_norm"):
        assert [log[key] for log in offloaded] == pytest.approx([log[key] for log in plain], rel=1e-5)


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
@pytest.mark.parametrize("flash_attn", ["auto", "disabled"])
def test_bf16(finetuning_type, flash_attn, train, tmp_path):
    """Autocast over float32 weights: query and key come out of the rotary embedding in float32, the value does not."""
    common = {"finetuning_type": finetuning_type, "flash_attn": flash_attn, "max_steps": 2, "bf16": True}
    ours = train(solopo_alpha=0, output_dir=str(tmp_path / "ours"), **common)
    host = train(stage="dpo", dataset="pairs_short", output_dir=str(tmp_path / "host"), **common)
    assert losses(ours) == pytest.approx(losses(host), rel=2e-2)


@pytest.mark.parametrize("name", ["Bloom", "Gemma2", "Lfm2"])
def test_models_that_cannot_pack_train_on_padded_batches(name, train, tmp_path, tiny_qwen2):
    """Bloom has ALiBi outside the attention interface and takes no position ids, Gemma 2 soft-caps its attention, LFM2 convolves."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen2)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "Lfm2":
        shape |= {"layer_types": ["conv", "full_attention"]}
    if name != "Bloom":
        shape |= {"head_dim": 8, "intermediate_size": 64, "num_key_value_heads": 2}
    config = getattr(transformers, f"{name}Config")(**shape)
    path = str(tmp_path / "model")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)

    for finetuning_type in ("full", "lora"):
        common = {"model_name_or_path": path, "finetuning_type": finetuning_type}
        ours = train(solopo_alpha=0, output_dir=str(tmp_path / f"ours-{finetuning_type}"), **common)
        dpo = {"stage": "dpo", "dataset": "pairs_short"}
        host = train(**dpo, output_dir=str(tmp_path / f"host-{finetuning_type}"), **common)
        assert losses(ours) == pytest.approx(losses(host), rel=1e-5)


@pytest.mark.parametrize("batch_size", [4, 3])
def test_eval_loss_is_the_mean_over_examples(batch_size, train, tmp_path):
    """7 examples do not divide by 4: the last batch must not weigh as much as a full one."""
    write_dataset(tmp_path / "data", make_rows(7))

    def evaluate(size: int) -> dict:
        output_dir = tmp_path / f"batch{size}"
        train(
            dataset_dir=str(tmp_path / "data"),
            eval_dataset="pairs",
            per_device_eval_batch_size=size,
            do_eval=True,
            max_steps=1,
            disable_shuffling=True,
            output_dir=str(output_dir),
        )
        return json.loads((output_dir / "eval_results.json").read_text())

    single, batched = evaluate(1), evaluate(batch_size)
    for key in ("eval_loss", "eval_loss/po", "eval_rewards/gap", "eval_rewards/accuracies"):
        assert batched[key] == pytest.approx(single[key], rel=1e-5), key


def test_resume_equals_the_uninterrupted_run(train, tmp_path):
    """Stopped after a checkpoint, the next one half written: the run goes on from the whole one."""
    overrides = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "pref_loss": "sigmoid"}
    whole = train(output_dir=str(tmp_path / "whole"), **overrides)

    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", broken / "checkpoint-2")
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", broken / "checkpoint-4")
    (broken / "checkpoint-4" / "rng_state.pth").write_bytes(b"PK half")
    resumed = train(output_dir=str(broken), **overrides)
    assert resumed == [{**log, **{key: pytest.approx(value, rel=1e-6) for key, value in log.items()}} for log in whole]


def test_outputs_say_solopo_and_have_plots(arguments, tmp_path):
    args = arguments(plot_loss=True, save_strategy="steps", save_steps=2, include_effective_tokens_per_second=True)
    run_host(args)
    output = Path(args["output_dir"])
    for plot in (
        "solopo",
        "loss",
        "loss_po",
        "loss_solo_ra",
        "rewards_gap",
        "rewards_chosen_long",
        "rewards_accuracies",
    ):
        assert (output / f"training_{plot}.png").stat().st_size > 1000
    assert len(read_logs(str(output))) == 3
    results = json.loads((output / "train_results.json").read_text())
    assert results["effective_tokens_per_sec"] > 0
    assert json.loads((output / "trainer_state.json").read_text())["total_flos"] > 0
    card = (output / "README.md").read_text()
    assert "solopo" in card.lower()


def test_the_card_beside_a_checkpoint_says_solopo(train, tmp_path, monkeypatch):
    import solopo_llamafactory.train.workflow as workflow

    monkeypatch.setattr(workflow, "create_modelcard_and_push", lambda *args: None)  # keep TRL's card
    train(save_strategy="steps", save_steps=2)
    card = (tmp_path / "output" / "README.md").read_text()
    assert "SoLoPO" in card and "2505.11166" in card and "2305.18290" not in card


def test_the_end_of_an_answer_is_logged_for_both_contexts(train, tmp_path):
    """In a random model each token, the end one too, has about the probability 1 / vocabulary."""
    packed = train(solopo_alpha=1.0, max_steps=1, output_dir=str(tmp_path / "packed"))[0]
    for name in ("chosen", "chosen_long"):
        assert packed[f"logps/{name}_end"] == pytest.approx(packed[f"logps/{name}"], rel=0.3)
    assert "logps/rejected_end" not in packed
    short = train(solopo_view="short", max_steps=1, output_dir=str(tmp_path / "short"))[0]
    assert short["logps/chosen_end"] == pytest.approx(packed["logps/chosen_end"], rel=1e-5)
    assert "logps/chosen_long_end" not in short
