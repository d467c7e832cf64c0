"""`stage: solopo` from arguments to a trained model, in the host's order of steps."""

from typing import TYPE_CHECKING

from .assembly import assemble_trainer, is_own_reference
from .host.data import load_data
from .host.imports import (
    create_modelcard_and_push,
    get_template_and_fix_tokenizer,
    load_config,
    load_tokenizer,
    logger,
    plot_loss,
)
from .packable import check_rope
from .plots import plot_training
from .processes import rank_and_world_size
from .report import DataReport, predicted_ratios, summary


if TYPE_CHECKING:
    from transformers import TrainerCallback

    from .host.arguments import SolopoFinetuningArguments
    from .host.imports import DataArguments, ModelArguments, TrainingArguments


def run_solopo(
    model_args: "ModelArguments",
    data_args: "DataArguments",
    training_args: "TrainingArguments",
    finetuning_args: "SolopoFinetuningArguments",
    callbacks: "list[TrainerCallback] | None" = None,
) -> None:
    """Train and evaluate. Everything that can be refused is refused before the model loads."""
    tokenizer_module = load_tokenizer(model_args)
    tokenizer = tokenizer_module["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    dataset_module, reports = load_data(
        template, model_args, data_args, training_args, finetuning_args, **tokenizer_module
    )
    config = load_config(model_args)
    check_rope(config, data_args.cutoff_len)
    log_summaries(reports, config, finetuning_args)

    trainer = assemble_trainer(
        model_args,
        data_args,
        training_args,
        finetuning_args,
        callbacks=callbacks,
        config=config,
        reports=reports,
        dataset_module=dataset_module,
        tokenizer_module=tokenizer_module,
    )

    if training_args.do_train:
        train_result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_trained_model()
        if finetuning_args.include_effective_tokens_per_second:
            train_result.metrics["effective_tokens_per_sec"] = tokens_per_second(
                reports["train"], finetuning_args, train_result.metrics
            )
        trainer.log_metrics("train", train_result.metrics)
        trainer.save_metrics("train", train_result.metrics)
        trainer.save_state()
        if trainer.is_world_process_zero() and finetuning_args.plot_loss:
            plot_loss(training_args.output_dir, keys=plotted_metrics(dataset_module, finetuning_args))
            logger.info_rank0(f"Picture of the run: {plot_training(training_args.output_dir)}")

    if training_args.do_eval:
        metrics = trainer.evaluate(metric_key_prefix="eval")
        if is_own_reference(training_args, finetuning_args):  # rewards against itself are all 0
            metrics = {name: value for name, value in metrics.items() if "rewards" not in name}
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    create_modelcard_and_push(trainer, model_args, data_args, training_args, finetuning_args)


def log_summaries(reports: dict[str, list[DataReport]], config, finetuning_args) -> None:
    """The summary of each split, and a warning where long PO would be cheaper."""
    view, align = finetuning_args.solopo_view, finetuning_args.solopo_align
    for split, split_reports in reports.items():
        for report in split_reports:
            logger.info_rank0(summary(report, split, config, view, align))
            for rival, ratio in predicted_ratios(report, config, view, align).items():
                if ratio > 1 and split == "train":
                    logger.warning_rank0(
                        f"A SoLoPO step on the {split} data is predicted to cost {ratio:.2f} times {rival}: the short "
                        "contexts are too long beside the long ones for a gain."
                    )


def tokens_per_second(reports: list[DataReport], finetuning_args, metrics: dict[str, float]) -> float:
    """Tokens that the packed row computes in a second on one process."""
    tokens = sum(
        report.packed_tokens(finetuning_args.solopo_view, finetuning_args.solopo_align).sum() for report in reports
    )
    _, world_size = rank_and_world_size()
    return tokens * metrics["epoch"] / metrics["train_runtime"] / world_size


def plotted_metrics(dataset_module: dict, finetuning_args) -> list[str]:
    """Names of the metrics that `plot_loss: true` draws."""
    keys = ["loss", "loss/po", "rewards/accuracies", "rewards/margins", "rewards/chosen"]
    if finetuning_args.solopo_view == "both":
        keys += ["loss/solo_ra", "rewards/gap", "rewards/chosen_long"]
    evaluation = dataset_module.get("eval_dataset")
    if isinstance(evaluation, dict):
        keys += [f"eval_{name}_loss" for name in evaluation]
    elif evaluation is not None:
        keys.append("eval_loss")
    return keys
