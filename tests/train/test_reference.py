"""The table of reference log-probs: the same losses as with a live reference, found again, and completed."""

import gc
import json
import math
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

import solopo_llamafactory.train.assembly as assembly
from solopo_llamafactory.data.sequences import sequences_of
from solopo_llamafactory.train import reference
from solopo_llamafactory.train.reference import (
    ReferenceTable,
    cache_file,
    fill,
    indices_of_first_batches,
    lacking,
)
from tests.helpers.runs import make_rows, write_dataset


EXAMPLES = [
    {"short_prompt_ids": [1, i], "long_prompt_ids": [1, 2, i], "chosen_ids": [7, i], "rejected_ids": [8]}
    for i in range(5)
]
SEQUENCES = sequences_of("both")


@pytest.fixture
def loaded(monkeypatch) -> list:
    """Weak references to every reference model that was loaded."""
    models = []
    create = assembly.create_ref_model

    def record(*args):
        model = create(*args)
        if model is not None:
            models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(assembly, "create_ref_model", record)
    return models


@pytest.fixture
def own_model(tmp_path, tiny_qwen2) -> str:
    """A copy of the tiny model, whose table is not there yet."""
    return str(shutil.copytree(tiny_qwen2, tmp_path / "model"))


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many examples the reference computed, each time that it did."""
    counts = []

    def count_and_fill(table, examples, *rest, **more):
        counts.append(len(examples))
        return reference.fill(table, examples, *rest, **more)

    monkeypatch.setattr("solopo_llamafactory.train.trainer.fill", count_and_fill)
    return counts


@pytest.mark.parametrize("pref_loss", ["sigmoid", "hinge", "ipo"])
@pytest.mark.parametrize("solopo_reference", ["matched", "short"])
def test_cached_equals_live(pref_loss, solopo_reference, train, tmp_path, loaded):
    common = {
        "pref_loss": pref_loss,
        "solopo_reference": solopo_reference,
        "solopo_allow_unbounded": True,
        "learning_rate": 1e-2,
        "max_steps": 8,  # an epoch
    }
    live = train(solopo_precompute_ref=False, output_dir=str(tmp_path / "live"), **common)
    cached = train(output_dir=str(tmp_path / "cached"), **common)
    again = train(output_dir=str(tmp_path / "again"), **common)
    assert [log["loss"] for log in cached] == pytest.approx([log["loss"] for log in live], rel=1e-5)
    assert [log["grad_norm"] for log in cached] == pytest.approx([log["grad_norm"] for log in live], rel=1e-4)
    assert [log["loss"] for log in again] == [log["loss"] for log in cached]
    assert len(loaded) <= 2  # the last run found the table, and so may the second (made by another loss)


def test_one_table_serves_both_references_and_views(train, tmp_path, own_model, computed):
    """A table that a run measured on short contexts alone is completed, and its losses are those of a live reference."""
    common = {"pref_loss": "sigmoid", "max_steps": 8, "learning_rate": 1e-2}  # an epoch
    common |= {"model_name_or_path": own_model}
    runs = [{}, {"solopo_reference": "matched"}, {"solopo_view": "short"}, {"solopo_view": "long"}, {}]
    for i, changes in enumerate(runs):
        cached = train(output_dir=str(tmp_path / f"{i}-cached"), **common, **changes)
        live = train(output_dir=str(tmp_path / f"{i}-live"), solopo_precompute_ref=False, **common, **changes)
        assert [log["loss"] for log in cached] == pytest.approx([log["loss"] for log in live], rel=1e-5)
    # Short pairs; then their long twins; the short view has all; the long one lacks its rejected answers.
    assert computed == [16, 16, 16]


def test_the_reference_model_is_gone_before_the_first_step(train, tmp_path, loaded, tiny_llama, monkeypatch):
    alive = []
    step = assembly.SolopoTrainer.training_step

    def training_step(self, *args, **kwargs):
        gc.collect()
        alive.append(loaded[0]() is not None)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(assembly.SolopoTrainer, "training_step", training_step)
    train(pref_loss="sigmoid", model_name_or_path=tiny_llama, template="llama3")
    assert alive == [False] * 3


def test_another_reference_model_has_another_table(train, tmp_path, tiny_qwen2, loaded):
    """A model trained further is saved over the same path: its log-probs must not be the old ones."""
    path = tmp_path / "model"
    shutil.copytree(tiny_qwen2, path)
    train(pref_loss="sigmoid", model_name_or_path=str(path), output_dir=str(tmp_path / "first"), learning_rate=1e-2)
    shutil.copy(tmp_path / "first" / "model.safetensors", path)
    logs = train(pref_loss="sigmoid", model_name_or_path=str(path), output_dir=str(tmp_path / "second"))
    assert len(loaded) == 2
    assert logs[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)  # equal to its reference at first


def test_lora_computes_it_without_the_adapter_and_without_a_second_model(train, tmp_path, loaded):
    common = {"pref_loss": "sigmoid", "finetuning_type": "lora", "learning_rate": 1e-2, "max_steps": 6}
    live = train(solopo_precompute_ref=False, output_dir=str(tmp_path / "live"), **common)
    cached = train(output_dir=str(tmp_path / "cached"), **common)
    assert [log["loss"] for log in cached] == pytest.approx([log["loss"] for log in live], rel=1e-5)
    assert loaded == []


LORA_DPO = {"pref_loss": "sigmoid", "finetuning_type": "lora"}


@pytest.fixture
def with_dropout(tmp_path, tiny_qwen2) -> str:
    """Folder of a model whose config asks for dropout as a number, which the host does not switch off."""
    path = tmp_path / "with_dropout"
    shutil.copytree(tiny_qwen2, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    return str(path)


def test_noise_of_training_is_no_part_of_the_reference(train, tmp_path, own_model):
    """A table that a run with NEFTune left behind is right for a run without."""
    common = {**LORA_DPO, "model_name_or_path": own_model, "solopo_reference": "matched"}
    train(neftune_noise_alpha=5, output_dir=str(tmp_path / "noisy"), **common)
    log = train(output_dir=str(tmp_path / "plain"), **common)[0]
    assert log["rewards/chosen"] == log["rewards/rejected"] == log["rewards/chosen_long"] == 0
    assert log["loss"] == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("precompute", [True, False])
def test_the_reference_does_not_depend_on_the_seed(precompute, train, tmp_path, with_dropout, monkeypatch):
    """Cached or live, LoRA without its adapter: dropout is off in the reference and on in training."""
    scored = []
    score = assembly.SolopoTrainer._live_reference_log_probs

    def record(self, *args):
        training = [module.training for module in self.model.modules()]
        sums = score(self, *args)
        assert [module.training for module in self.model.modules()] == training
        scored.append(torch.stack(list(sums.values()), 1))
        return sums

    monkeypatch.setattr(assembly.SolopoTrainer, "_live_reference_log_probs", record)
    common = {**LORA_DPO, "solopo_precompute_ref": precompute, "model_name_or_path": with_dropout, "max_steps": 1}
    common |= {"per_device_train_batch_size": 16, "disable_shuffling": True, "logging_steps": 1}
    logs = []
    for seed in (1, 2):
        monkeypatch.setenv("HF_HOME", str(tmp_path / f"home-{seed}"))
        monkeypatch.setattr("solopo_llamafactory.train.reference.constants.HF_HOME", str(tmp_path / f"home-{seed}"))
        logs += train(seed=seed, output_dir=str(tmp_path / f"seed-{seed}"), **common)
    first, second = (scores.sort(0).values for scores in scored)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    assert logs[0]["logps/chosen"] != pytest.approx(logs[1]["logps/chosen"], rel=1e-5)


@pytest.mark.parametrize("shuffling", [True, False])
@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
def test_a_run_of_few_steps_computes_what_it_uses(finetuning_type, shuffling, train, tmp_path, own_model, computed):
    """2 steps of 2 x 2 of 16 examples; then the whole run computes the others, and its losses are the live ones."""
    common = {"pref_loss": "sigmoid", "finetuning_type": finetuning_type, "learning_rate": 1e-2}
    common |= {"model_name_or_path": own_model}
    common |= {"gradient_accumulation_steps": 2, "disable_shuffling": not shuffling}
    train(max_steps=2, output_dir=str(tmp_path / "trial"), **common)
    assert computed == [8]
    cached = train(max_steps=6, output_dir=str(tmp_path / "cached"), **common)
    assert computed == [8, 8]
    live = train(max_steps=6, solopo_precompute_ref=False, output_dir=str(tmp_path / "live"), **common)
    assert [log["loss"] for log in cached] == pytest.approx([log["loss"] for log in live], rel=1e-5)


def test_an_evaluation_that_is_not_asked_for_is_not_computed(train, tmp_path, own_model, computed):
    train(
        pref_loss="sigmoid",
        model_name_or_path=own_model,
        val_size=4,
        max_steps=20,
        output_dir=str(tmp_path / "output"),
    )
    assert computed == [12]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_indices_of_first_batches_are_those_that_the_loaders_read(processes):
    """As accelerate shares batches out, and without moving what a sampler draws next."""
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader, SequentialSampler

    dataset = list(range(31))
    for shuffle in (True, False):
        torch.manual_seed(0)
        plain = DataLoader(dataset, batch_size=2, shuffle=shuffle)
        loaders = [
            prepare_data_loader(
                plain,
                num_processes=processes,
                process_index=i,
                use_seedable_sampler=True,
                data_seed=7,
                put_on_device=False,
            )
            for i in range(processes)
        ]
        looked_at = [indices_of_first_batches(loader, 3) for loader in loaders]
        read = [{int(i) for batch in list(loader)[:3] for i in batch} for loader in loaders]
        assert looked_at == read
        assert indices_of_first_batches(loaders[0], len(loaders[0])) is None
    other = prepare_data_loader(DataLoader(dataset, batch_size=2, shuffle=True), use_seedable_sampler=False)
    assert indices_of_first_batches(other, 1) is None
    assert isinstance(plain.sampler, SequentialSampler)


def test_tables_of_the_first_version_are_not_used(tmp_path, describe, monkeypatch):
    """They may hold noise of training."""
    now = describe()
    monkeypatch.setattr(reference, "TABLE_VERSION", 1)
    assert describe() != now


def test_evaluation_uses_the_table_too(train, tmp_path, loaded):
    write_dataset(tmp_path / "data", make_rows(4, seed=1), name="train_pairs")
    write_dataset(tmp_path / "data", make_rows(3, seed=2), name="eval_pairs")
    results = []
    for precompute in (False, True):
        output = tmp_path / f"precompute-{precompute}"
        train(
            pref_loss="sigmoid",
            solopo_precompute_ref=precompute,
            dataset_dir=str(tmp_path / "data"),
            dataset="train_pairs",
            eval_dataset="eval_pairs",
            do_eval=True,
            output_dir=str(output),
            learning_rate=1e-2,
        )
        results.append(json.loads((output / "eval_results.json").read_text()))
    live, cached = results
    assert cached["eval_loss"] == pytest.approx(live["eval_loss"], rel=1e-5)
    assert cached["eval_rewards/chosen"] == pytest.approx(live["eval_rewards/chosen"], rel=1e-4)


def collate(features):
    return {
        "ids": [str(feature["short_prompt_ids"]) for feature in features],
        "digests": [SEQUENCES.digests(feature) for feature in features],
        "rows": features,
    }


def score(batch) -> torch.Tensor:
    """A number for each sequence that can be told again: 100 x its answer's first token + the prompt's length."""
    return torch.tensor(
        [[100.0 * row[each.answer][0] + len(row[each.prompt]) for each in SEQUENCES] for row in batch["rows"]]
    )


def test_fill_save_open_and_lookup(tmp_path):
    path = tmp_path / "folder" / "table.safetensors"
    table = ReferenceTable(path)
    fill(table, Dataset.from_list(EXAMPLES), collate, score, batch_size=2)
    again = ReferenceTable.open(path)
    assert again.logps == table.logps
    got = again.lookup([SEQUENCES.digests(EXAMPLES[3])], torch.device("cpu"))
    assert got.tolist() == [[702, 802, 703]] and got.dtype == torch.float32
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_interrupted_computation_goes_on_where_it_was_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "SAVE_SECONDS", -1)  # after each batch
    path = tmp_path / "table.safetensors"
    scored = []

    def interrupted(batch):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(batch)
        return score(batch)

    dataset = Dataset.from_list(EXAMPLES)
    with pytest.raises(KeyboardInterrupt):
        fill(ReferenceTable(path), dataset, collate, interrupted, batch_size=2)
    table = ReferenceTable.open(path)
    ((same, missing),) = lacking(table, [dataset], SEQUENCES)
    assert same is dataset and missing == [4]
    fill(table, dataset.select(missing), collate, score, batch_size=2)
    assert lacking(table, [dataset], SEQUENCES) == []


def test_more_data_needs_only_the_new_examples(tmp_path):
    table = ReferenceTable(None)
    fill(table, Dataset.from_list(EXAMPLES[:2]), collate, score, batch_size=1)
    assert lacking(table, [Dataset.from_list(EXAMPLES)], SEQUENCES)[0][1] == [2, 3, 4]
    table.save()  # without a path nothing is written
    assert list(Path(tmp_path).iterdir()) == []


def test_what_is_not_a_number_is_not_kept(tmp_path):
    table = ReferenceTable(tmp_path / "table.safetensors")
    with pytest.raises(ValueError, match=r"example `\[1, 0\]` the log-probability nan"):
        fill(table, Dataset.from_list(EXAMPLES), collate, lambda batch: score(batch) * torch.nan, batch_size=1)
    assert not table.path.exists()


def test_two_runs_complete_one_file(tmp_path):
    path = tmp_path / "table.safetensors"
    first, second = ReferenceTable.open(path), ReferenceTable.open(path)
    fill(first, Dataset.from_list(EXAMPLES[:3]), collate, score, batch_size=1)
    fill(second, Dataset.from_list(EXAMPLES[3:]), collate, score, batch_size=1)
    assert ReferenceTable.open(path).logps == first.logps | second.logps


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "table.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match="table.safetensors is broken.*delete it"):
        ReferenceTable.open(path)


@pytest.fixture
def describe(tmp_path):
    """The table's file for a model with an adapter, for changed arguments."""
    from llamafactory.hparams import ModelArguments

    for name in ("model", "other", "adapter/a", "adapter/b"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "x.safetensors").write_bytes(name.encode())

    def file(commit=None, finetuning=None, **changes) -> Path | None:
        model_args = ModelArguments(
            **{"model_name_or_path": str(tmp_path / "model"), "adapter_name_or_path": str(tmp_path / "adapter/a")}
            | changes
        )
        finetuning_args = {"finetuning_type": "lora", "create_new_adapter": False, "ref_model": None}
        finetuning_args |= {"ref_model_adapters": None, "ref_model_quantization_bit": None} | (finetuning or {})
        return cache_file(model_args, SimpleNamespace(**finetuning_args), SimpleNamespace(_commit_hash=commit))

    return file


@pytest.mark.parametrize(
    "changes",
    [
        {"model_name_or_path": "{}/other"},
        {"adapter_name_or_path": "{}/adapter/b"},
        {"adapter_name_or_path": None},
        {"adapter_name_or_path": "{}/adapter", "adapter_folder": "b"},
        {"quantization_bit": 4},
        {"quantization_type": "fp4"},
        {"double_quantization": False},
        {"rope_scaling": "yarn"},
        {"resize_vocab": True},
        {"finetuning": {"finetuning_type": "full"}},
        {"finetuning": {"create_new_adapter": True}},
        {"finetuning": {"ref_model": "{}/other"}},
        {"finetuning": {"ref_model": "{}/other", "ref_model_quantization_bit": 4}},
        {"finetuning": {"ref_model": "{}/other", "ref_model_adapters": "{}/adapter/b"}},
    ],
)
def test_what_makes_another_reference_has_another_file(changes, describe, tmp_path):
    changes = json.loads(json.dumps(changes).replace("{}", str(tmp_path)))
    assert describe() == describe()
    others = [describe(**changes), describe(), describe(finetuning={"ref_model": str(tmp_path / "other")})]
    assert None not in others
    assert others[0] != others[1]
    if "ref_model" in changes.get("finetuning", {}) and len(changes["finetuning"]) > 1:
        assert others[0] != others[2]


def test_files_that_change_and_models_that_nothing_tells_apart(describe, tmp_path):
    before = describe()
    (tmp_path / "model/x.safetensors").write_bytes(b"trained")
    assert describe() != before
    assert describe(train_from_scratch=True) is None
    hub = {"model_name_or_path": "org/model", "adapter_name_or_path": None}
    assert describe(**hub) is None
    assert describe(**hub, commit="abc") not in (None, describe(**hub, commit="def"))
    assert describe(finetuning={"ref_model": "org/reference"}, commit="abc") is None  # the commit is not its own
    assert describe(adapter_name_or_path="org/adapter", commit="abc") is None
