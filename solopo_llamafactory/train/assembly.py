"""Models, reference table and collator, put together into the trainer."""

from typing import Any

import torch
from datasets import Dataset

from ..data.collator import SolopoCollator
from ..data.sequences import Sequences
from ..data.summary import DataReport
from ..host.imports import create_ref_model, load_model
from ..host.log import logger
from ..host.model_loading import working_rope_scaling
from ..model.attention import GPU_LENGTH_MULTIPLE
from ..model.probe import Probe, below_adapter, probe, text_part, use_packed_attention
from ..model.tiling import tile_mlps
from .answer_probe import AnswerProbe
from .reference import ReferenceTable, cache_file, lacking
from .trainer import SolopoTrainer


def assemble_trainer(
    model_args,
    data_args,
    training_args,
    finetuning_args,
    callbacks: list | None,
    config,
    sequences: Sequences,
    reports: dict[str, list[DataReport]],
    dataset_module: dict[str, Any],
    tokenizer_module: dict[str, Any],
    template,
) -> SolopoTrainer:
    """The trainer, which alone keeps the models that are loaded here."""
    tokenizer = tokenizer_module["tokenizer"]
    reference_sequences = sequences.measured_from(finetuning_args.solopo_reference)

    table, without_reference, use_ref_model = None, [], finetuning_args.use_ref_model
    if use_ref_model and finetuning_args.solopo_precompute_ref and training_args.do_train:
        table = ReferenceTable.open(cache_file(model_args, finetuning_args, config))
        evaluates = training_args.do_eval or training_args.eval_strategy != "no"
        without_reference = lacking(table, datasets_of(dataset_module, evaluates), reference_sequences)
        use_ref_model = bool(without_reference)
        if not use_ref_model:
            logger.info_rank0(f"Reference log-probs are read from {table.path}; no reference model is loaded.")

    with working_rope_scaling():
        model = load_model(tokenizer, model_args, finetuning_args, training_args.do_train)
        if not use_ref_model:
            ref_model = None
        elif is_own_reference(training_args, finetuning_args):
            ref_model = model
        else:
            ref_model = create_ref_model(model_args, finetuning_args)

    if finetuning_args.use_ref_model and training_args.do_train:
        context = reference_context_in_words(finetuning_args, sequences)
        logger.info_rank0(f"Rewards are measured {context}, from {reference_in_words(model_args, finetuning_args)}.")

    models = [model] if ref_model in (None, model) else [model, ref_model]
    probes = [probe(below_adapter(each), data_args.cutoff_len) for each in models]
    packed = switch_to_packed_rows(models, probes)
    multiple = GPU_LENGTH_MULTIPLE if torch.cuda.is_available() else 1
    longest_row = max(
        sequences.longest_row(report.as_lengths(), training_args.per_device_train_batch_size, packed, multiple)
        for split in reports.values()
        for report in split
    )
    if finetuning_args.solopo_tiled_mlp:
        for each in models:
            tile_mlps(text_part(each), longest_row)

    return SolopoTrainer(
        model=model,
        ref_model=ref_model,
        args=training_args,
        finetuning_args=finetuning_args,
        longest_row=longest_row,
        last_layer=probes[0].last_layer,
        ref_last_layer=None if ref_model is None else probes[-1].last_layer,
        reference_table=table,
        without_reference=without_reference,
        answer_probe=(
            AnswerProbe.of(
                finetuning_args.solopo_probe,
                held_out_of(dataset_module),
                tokenizer,
                template,
                finetuning_args.solopo_gradient,
            )
            if finetuning_args.solopo_probe
            else None
        ),
        data_collator=SolopoCollator(
            sequences=sequences,
            packed=packed,
            pad_token_id=tokenizer.pad_token_id,
            pad_to_multiple_of=multiple,
            reference_sequences=None if table is None else reference_sequences,
        ),
        callbacks=callbacks,
        **dataset_module,
        **tokenizer_module,
    )


def is_own_reference(training_args, finetuning_args) -> bool:
    """Whether a model is compared with itself: evaluation only, without a reference named, as in the host's stage."""
    return finetuning_args.use_ref_model and finetuning_args.ref_model is None and not training_args.do_train


def reference_context_in_words(finetuning_args, sequences: Sequences) -> str:
    """Which contexts the reference model reads, and the argument that decides it."""
    if not sequences.long_twins:
        return f"on the {finetuning_args.solopo_view} context (`solopo_view: {finetuning_args.solopo_view}`)"
    if finetuning_args.solopo_reference == "short":
        return "on the short context, the long reward too (`solopo_reference: short`)"
    return "each on its own context (`solopo_reference: matched`)"


def reference_in_words(model_args, finetuning_args) -> str:
    """What the reference model is, which for LoRA depends on the adapters that a run begins with."""
    if finetuning_args.ref_model is not None:
        adapters = finetuning_args.ref_model_adapters
        return f"`ref_model: {finetuning_args.ref_model}`" + (f" with the adapter {adapters}" if adapters else "")
    if finetuning_args.finetuning_type != "lora" or not model_args.adapter_name_or_path:
        return "the model as it is before this run"
    if finetuning_args.create_new_adapter:
        return "the model with the adapters of `adapter_name_or_path`, as it is before this run"
    return (
        f"the model without its adapter {model_args.adapter_name_or_path[-1]}, as in the host's dpo stage: set "
        "`create_new_adapter: true` to measure from the model with it"
    )


def datasets_of(dataset_module: dict[str, Any], evaluates: bool) -> list[Dataset]:
    """The training data and, where the run evaluates, every evaluation set."""
    evaluation = held_out_of(dataset_module) if evaluates else []
    return [dataset for dataset in [dataset_module.get("train_dataset"), *evaluation] if dataset is not None]


def held_out_of(dataset_module: dict[str, Any]) -> list[Dataset]:
    """Every evaluation set."""
    evaluation = dataset_module.get("eval_dataset")
    evaluation = list(evaluation.values()) if isinstance(evaluation, dict) else [evaluation]
    return [dataset for dataset in evaluation if dataset is not None]


def switch_to_packed_rows(models: list, probes: list[Probe]) -> bool:
    """Switch the models' attention to packed rows; False, with one log line, where one cannot take them."""
    obstacle = next((each.obstacle for each in probes if each.obstacle is not None), None)
    if obstacle is not None:
        logger.info_rank0(
            "Using padded batches, short and long rows apart, slower and with the same results up to rounding: "
            f"{obstacle}."
        )
        return False
    use_packed_attention(map(below_adapter, models))
    return True
