"""`stage: solopo` from arguments to a trained model, in the host's order of steps."""

from typing import TYPE_CHECKING

from ..data.cost import cost_summary, cost_warning
from ..data.loading import load_data
from ..data.sequences import Sequences, sequences_of
from ..data.summary import DataReport, summary
from ..host.imports import (
    create_modelcard_and_push,
    get_template_and_fix_tokenizer,
    load_config,
    load_tokenizer,
    plot_loss,
)
from ..host.log import logger
from ..host.model_loading import refuse_unloadable
from ..model.probe import check_rope
from . import metrics
from .alignment import GRADIENTS
from .assembly import assemble_trainer, is_own_reference
from .run_plot import plot_training


if TYPE_CHECKING:
    from transformers import TrainerCallback

    from ..hooks.arguments import SolopoFinetuningArguments
    from ..host.imports import DataArguments, ModelArguments, TrainingArguments


def run_solopo(
    model_args: "ModelArguments",
    data_args: "DataArguments",
    training_args: "TrainingArguments",
    finetuning_args: "SolopoFinetuningArguments",
    callbacks: "list[TrainerCallback] | None" = None,
) -> None:
    """Train and evaluate. Everything that can be refused is refused before the model loads."""
    config = load_config(model_args)
    refuse_unloadable(config)
    check_rope(config, data_args.cutoff_len)
    tokenizer_module = load_tokenizer(model_args)
    tokenizer = tokenizer_module["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    sequences = sequences_of(finetuning_args.solopo_view, finetuning_args.solopo_align)
    dataset_module, reports = load_data(
        template, model_args, data_args, training_args, finetuning_args, sequences, **tokenizer_module
    )
    for split, split_reports in reports.items():
        for report in split_reports:
            logger.info_rank0(summary(report, split))

    trainer = assemble_trainer(
        model_args,
        data_args,
        training_args,
        finetuning_args,
        callbacks=callbacks,
        config=config,
        sequences=sequences,
        reports=reports,
        dataset_module=dataset_module,
        tokenizer_module=tokenizer_module,
        template=template,
    )
    log_costs(reports, config, sequences, trainer.data_collator.packed)

    if sequences.long_twins and training_args.do_train:
        gradient = finetuning_args.solopo_gradient
        logger.info_rank0(f"`solopo_gradient: {gradient}`: the alignment's gradient goes into {GRADIENTS[gradient]}.")

    if training_args.do_train:
        train_result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_trained_model()
        if finetuning_args.include_effective_tokens_per_second:
            seconds = train_result.metrics["train_runtime"]
            train_result.metrics["effective_tokens_per_sec"] = trainer.computed_tokens / seconds
        trainer.log_metrics("train", train_result.metrics)
        trainer.save_metrics("train", train_result.metrics)
        trainer.save_state()
        if trainer.is_world_process_zero() and finetuning_args.plot_loss:
            plot_loss(training_args.output_dir, keys=plotted_metrics(dataset_module, sequences))
            logger.info_rank0(f"Picture of the run: {plot_training(training_args.output_dir)}")

    if training_args.do_eval:
        results = trainer.evaluate(metric_key_prefix="eval")
        if is_own_reference(training_args, finetuning_args):  # rewards against itself are all 0
            results = {name: value for name, value in results.items() if "rewards" not in name}
        trainer.log_metrics("eval", results)
        trainer.save_metrics("eval", results)

    create_modelcard_and_push(trainer, model_args, data_args, training_args, finetuning_args)


def log_costs(reports: dict[str, list[DataReport]], config, sequences: Sequences, packed: bool) -> None:
    """What a step on the training data will cost, and a warning where the host's own stage would be cheaper."""
    arguments = (config, sequences, packed)
    for report in reports.get("train", []):
        logger.info_rank0(f"SoLoPO: {cost_summary(report.as_lengths(), *arguments)}.")
        if warning := cost_warning(report.as_lengths(), *arguments):
            logger.warning_rank0(f"SoLoPO: {warning}")


def plotted_metrics(dataset_module: dict, sequences: Sequences) -> list[str]:
    """Names of the metrics that `plot_loss: true` draws."""
    keys = ["loss", metrics.LOSS_PO, metrics.ACCURACIES, metrics.MARGINS, metrics.reward_of("chosen")]
    if sequences.long_twins:
        keys += [metrics.LOSS_SOLO_RA, metrics.GAP, metrics.reward_of(sequences.long_twins["chosen"])]
    evaluation = dataset_module.get("eval_dataset")
    if isinstance(evaluation, dict):
        keys += [f"eval_{name}_loss" for name in evaluation]
    elif evaluation is not None:
        keys.append("eval_loss")
    return keys
