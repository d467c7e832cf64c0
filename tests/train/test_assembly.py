"""What is loaded for a run, and what is left out."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

import solopo_llamafactory.train.assembly as assembly
from solopo_llamafactory.data.sequences import sequences_of
from solopo_llamafactory.train.assembly import (
    datasets_of,
    is_own_reference,
    reference_context_in_words,
    reference_in_words,
)
from tests.helpers.runs import read_logs, run_host


ONE, TWO, THREE = (Dataset.from_dict({"id": [name]}) for name in "abc")


@pytest.mark.parametrize(
    "module, expected",
    [
        ({"train_dataset": ONE}, [ONE]),
        ({"train_dataset": ONE, "eval_dataset": None}, [ONE]),
        ({"train_dataset": ONE, "eval_dataset": TWO}, [ONE, TWO]),
        ({"train_dataset": ONE, "eval_dataset": {"x": TWO, "y": THREE}}, [ONE, TWO, THREE]),
        ({"eval_dataset": TWO}, [TWO]),
    ],
)
def test_datasets_of_a_run(module, expected):
    assert [each["id"] for each in datasets_of(module, evaluates=True)] == [each["id"] for each in expected]
    trained = [ONE] if "train_dataset" in module else []
    assert [each["id"] for each in datasets_of(module, evaluates=False)] == [each["id"] for each in trained]


@pytest.mark.parametrize(
    "do_train, ref_model, use_ref_model, expected",
    [(False, None, True, True), (True, None, True, False), (False, "path", True, False), (False, None, False, False)],
)
def test_a_model_is_its_own_reference_in_evaluation_only(do_train, ref_model, use_ref_model, expected):
    finetuning_args = SimpleNamespace(use_ref_model=use_ref_model, ref_model=ref_model)
    assert is_own_reference(SimpleNamespace(do_train=do_train), finetuning_args) is expected


@pytest.mark.parametrize("overrides, loads", [({"pref_loss": "orpo"}, 0), ({"pref_loss": "sigmoid", "seed": 1}, 1)])
def test_the_reference_is_loaded_for_losses_with_one_and_once(overrides, loads, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    loaded = []
    create = assembly.create_ref_model
    monkeypatch.setattr(assembly, "create_ref_model", lambda *args: loaded.append(args) or create(*args))
    for name in ("first", "second"):
        run_host(arguments(output_dir=str(tmp_path / name), max_steps=8, **overrides))
    assert len(loaded) == loads
    assert (tmp_path / "cache/solopo").is_dir() == bool(loads)


@pytest.mark.parametrize(
    "finetuning, adapters, words",
    [
        ({"finetuning_type": "full"}, None, "the model as it is before this run"),
        ({"finetuning_type": "lora"}, None, "the model as it is before this run"),
        (
            {"finetuning_type": "lora"},
            ["a", "sft"],
            "without its adapter sft, as in the host's dpo stage: set `create_new",
        ),
        ({"finetuning_type": "lora", "create_new_adapter": True}, ["sft"], "the model with the adapters"),
        ({"ref_model": "other", "ref_model_adapters": "b"}, ["sft"], "`ref_model: other` with the adapter b"),
    ],
)
def test_the_log_says_what_the_reference_is(finetuning, adapters, words):
    defaults = {"ref_model": None, "ref_model_adapters": None, "create_new_adapter": False}
    said = reference_in_words(SimpleNamespace(adapter_name_or_path=adapters), SimpleNamespace(**defaults | finetuning))
    assert words in said


@pytest.mark.parametrize(
    "view, reference, words",
    [
        ("both", "short", "on the short context, the long reward too (`solopo_reference: short`)"),
        ("both", "matched", "each on its own context (`solopo_reference: matched`)"),
        ("long", "short", "on the long context (`solopo_view: long`)"),
        ("short", "matched", "on the short context (`solopo_view: short`)"),
    ],
)
def test_the_log_says_on_which_context_rewards_are_measured(view, reference, words):
    finetuning_args = SimpleNamespace(solopo_view=view, solopo_reference=reference)
    assert reference_context_in_words(finetuning_args, sequences_of(view)) == words


@pytest.mark.parametrize("pref_loss, lines", [("sigmoid", 1), ("orpo", 0)])
def test_a_run_says_once_what_is_in_force(pref_loss, lines, arguments, monkeypatch):
    said = []
    monkeypatch.setattr(assembly.logger, "info_rank0", said.append)
    run_host(arguments(pref_loss=pref_loss, max_steps=1))
    assert (
        sum("`solopo_gradient: one_sided`: the alignment's gradient goes into the long" in line for line in said) == 1
    )
    assert sum("Rewards are measured on the short context" in line for line in said) == lines


def test_lora_on_an_adapter_starts_where_the_log_says(arguments, tmp_path, caplog):
    """Without `create_new_adapter` the reference is the bare base, so rewards do not begin at 0; with it they do."""
    lora = {"finetuning_type": "lora", "pref_loss": "orpo", "learning_rate": 1e-2}
    run_host(arguments(**lora, max_steps=4, output_dir=str(tmp_path / "sft")))
    common = {**lora, "pref_loss": "sigmoid", "adapter_name_or_path": str(tmp_path / "sft"), "max_steps": 1}
    rewards = {}
    for new in (False, True):
        output = str(tmp_path / f"new-{new}")
        run_host(arguments(**common, create_new_adapter=new, output_dir=output))
        rewards[new] = read_logs(output)[0]["rewards/chosen"]
    assert rewards[True] == pytest.approx(0, abs=1e-6)
    assert abs(rewards[False]) > 1e-3
