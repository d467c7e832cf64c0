"""What is loaded for a run, and what is left out."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

import solopo_llamafactory.assembly as assembly
from conftest import run_host
from solopo_llamafactory.assembly import datasets_of, is_own_reference


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
