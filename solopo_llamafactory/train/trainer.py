"""The trainer: the host's DPO trainer with one packed forward pass and SoLoPO's objective.

Optimizers, schedulers, reference model, samplers and logging are inherited. Shape suffixes: N examples, S sequences of
an example (see `data.sequences`), A answer tokens, V vocabulary, M metrics.
"""

import inspect
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset, concatenate_datasets
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from ..data.collator import MODEL_INPUTS
from ..data.sequences import Sequences
from ..host.imports import CustomDPOTrainer
from ..host.log import logger
from ..model.activation_checkpointing import CheckpointingByNeed, FixedCheckpointing, checkpointed_layers
from ..model.logprobs import answer_logps, answering_at, answering_with_logps, token_logps
from ..model.probe import below_adapter, text_part
from . import automatic_alpha, metrics
from .answer_probe import AnswerProbe
from .collapse import CollapseGuard
from .neftune import EmbeddingNoise
from .nonfinite import NonfiniteLosses
from .objectives import AUTO, Objective, pulls, solopo_loss
from .reference import ReferenceTable, fill, indices_of_first_batches
from .row_groups import SmallerGroup, followed_by_another


class SolopoTrainer(CustomDPOTrainer):
    """Trains on batches of `SolopoCollator`.

    Args:
        longest_row: tokens of the longest row, or group of padded rows, that the collator will make for training.
        last_layer: the model's layer that answers select at, see `model.probe.Probe`; without it logits are computed whole.
        ref_last_layer: the same of `ref_model`.
        reference_table: reference log-probs instead of a reference in each step.
        without_reference: datasets with the indices of the examples that the table lacks. What the run will use of them
            is computed when training begins, from `ref_model`, which is then let go, or from the model without its
            adapter.
        answer_probe: what the model is asked at the start and at each evaluation.
    """

    # For the model card that TRL writes beside each checkpoint.
    _name = "SoLoPO"
    _tag_names = ["solopo", "llama-factory"]
    _paper = {
        "title": "SoLoPO: Unlocking Long-Context Capabilities in LLMs via Short-to-Long Preference Optimization",
        "id": "2505.11166",
        "citation": (
            "@inproceedings{sun2026solopo,\n"
            "    title  = {{SoLoPO}: Unlocking Long-Context Capabilities in {LLMs} via Short-to-Long Preference "
            "Optimization},\n"
            "    author = {Huashan Sun and Shengyi Liao and Yansen Han and Yu Bai and Yang Gao and Cheng Fu and "
            "Weizhou Shen and Fanqi Wan and Ming Yan and Ji Zhang and Fei Huang},\n"
            "    year   = 2026,\n"
            "    booktitle = {The Fourteenth International Conference on Learning Representations},\n"
            "    eprint = {2505.11166}\n"
            "}"
        ),
    }

    def __init__(
        self,
        finetuning_args,
        longest_row: int,
        last_layer: torch.nn.Module | None = None,
        ref_last_layer: torch.nn.Module | None = None,
        reference_table: ReferenceTable | None = None,
        without_reference: Sequence[tuple[Dataset, list[int]]] = (),
        answer_probe: AnswerProbe | None = None,
        **kwargs,
    ):
        self.objective = Objective.of(finetuning_args)
        self.sequences: Sequences = kwargs["data_collator"].sequences
        self.reference_table, self.without_reference = reference_table, without_reference
        self.forward_parameters = inspect.signature(type(below_adapter(kwargs["model"])).forward).parameters
        self.last_layer, self.ref_last_layer = last_layer, ref_last_layer
        self.answer_probe, self._probed_step = answer_probe, None
        self.computed_tokens = 0  # by this process in training steps, filling and padding included
        self._eval_metrics: list[Tensor] = []
        self._step_metrics: list[dict[str, float]] = []  # of the micro-batches of the step in progress
        self._ends_step, self._smaller_group = True, None  # of the micro-batch in progress
        super().__init__(finetuning_args=finetuning_args, **kwargs)
        self.noise = None
        if self.neftune_noise_alpha is not None:
            self.noise = EmbeddingNoise(below_adapter(self.model).get_input_embeddings(), self.neftune_noise_alpha)
            self.neftune_noise_alpha = None  # or transformers adds its own
        self.checkpointing = self._choose_checkpointing(longest_row)
        self.nonfinite = NonfiniteLosses(finetuning_args.solopo_nonfinite == "skip", self.args.device)
        self.add_callback(self.nonfinite)
        self.automatic_alpha = None
        if self.objective.alpha == AUTO and self.sequences.long_twins:
            self.automatic_alpha = automatic_alpha.AutomaticAlpha()
            self.add_callback(self.automatic_alpha)
        if self.sequences.long_twins:
            self.add_callback(CollapseGuard(finetuning_args))
        if without_reference:
            self.add_callback(_ReferenceFirst(self))
        if answer_probe is not None:
            self.add_callback(_ProbeFirst(self))

    def _choose_checkpointing(self, longest_row: int) -> FixedCheckpointing | CheckpointingByNeed:
        layers, wanted = checkpointed_layers(text_part(self.model)), self.finetuning_args.solopo_checkpoint_layers
        if wanted == "auto" and layers and torch.cuda.is_available():
            sharded = self.is_fsdp_enabled or (
                self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3
            )
            return CheckpointingByNeed(layers, longest_row, sharded)
        return FixedCheckpointing(layers, len(layers) if wanted == "auto" else int(wanted))

    def training_step(self, model, inputs: dict[str, Any], *args, **kwargs) -> Tensor:
        """Do the host's step, with as many layers recomputed as the row demands; of two groups of padded rows for each."""
        self.computed_tokens += inputs["input_ids"].numel()
        self._ends_step = self.accelerator.sync_gradients
        rows, *others = inputs.get("row_groups", [inputs])
        self._smaller_group = SmallerGroup(self.args.device) if others else None
        followed = followed_by_another(self.accelerator, model) if others else nullcontext()
        with self.checkpointing.micro_batch(rows["input_ids"].numel(), self.state.global_step), followed:
            loss = super().training_step(model, inputs, *args, **kwargs)
        for rows in others:
            with self.checkpointing.micro_batch(rows["input_ids"].numel(), self.state.global_step):
                super().training_step(model, rows | {"again": self._smaller_group}, *args, **kwargs)
        self._smaller_group = None
        return self.nonfinite.logged_loss(loss)

    def store_metrics(self, metrics: dict[str, float], train_eval: Literal["train", "eval"] = "train") -> None:
        """Keep the metrics of a micro-batch until the whole step is known to be taken."""
        self._step_metrics.append(metrics)
        if self.accelerator.sync_gradients:
            for each in [] if self.nonfinite.skipping else self._step_metrics:
                super().store_metrics(each, train_eval)
            self._step_metrics = []

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Log the means over the steps that were taken."""
        self.nonfinite.correct(logs)
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, *args, **kwargs) -> None:
        """Save a checkpoint; a failure becomes one sentence with the folder and its free space."""
        if self.automatic_alpha is not None:
            self.state.stateful_callbacks[automatic_alpha.STATE] = self.automatic_alpha.to_dict()
        with self._writing(f"checkpoint of step {self.state.global_step}"):
            super()._save_checkpoint(*args, **kwargs)

    def save_trained_model(self) -> None:
        """Save the model at the end; a failure becomes one sentence with the folder and its free space."""
        with self._writing("trained model"):
            self.save_model()

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turn what torch and safetensors say of a full disk into one sentence."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as err:
            free = shutil.disk_usage(self.args.output_dir).free
            raise RuntimeError(
                f"The {what} cannot be written to {self.args.output_dir}, where {free / 2**30:.1f} GiB are free "
                f"({str(err).splitlines()[0]}): earlier checkpoints stay, and the same command goes on from the last "
                "complete one."
            ) from err

    def complete_reference_table(self, train_loader: DataLoader | None = None) -> int:
        """Compute what the table lacks, then let the reference model go. A second call has nothing to do.

        Args:
            train_loader: the training data as the run will read it; a run of few steps needs a part of it.

        Returns:
            How many examples were computed, by all processes.
        """
        if not self.without_reference:
            return 0
        used = None
        if train_loader is not None:
            batches = self.state.max_steps * self.args.gradient_accumulation_steps
            used = indices_of_first_batches(train_loader, batches)
        parts = [
            dataset.select(i for i in missing if used is None or dataset is not self.train_dataset or i in used)
            for dataset, missing in self.without_reference
        ]
        examples = concatenate_datasets([part for part in parts if len(part)]) if any(map(len, parts)) else []
        if len(examples):
            fill(
                self.reference_table,
                examples,
                self.data_collator.of_reference(),
                self._score_by_reference,
                batch_size=self.args.per_device_train_batch_size,
                num_workers=self.args.dataloader_num_workers,
            )
        where = self.reference_table.path or "not kept on disk, because nothing tells this model from others"
        logger.info_rank0(f"Reference log-probs of {len(examples)} examples were computed: {where}.")
        self.without_reference = ()
        if self.ref_model is not None:
            reference, self.ref_model, self.ref_last_layer = self.ref_model, None, None
            if hasattr(reference, "destroy"):  # a DeepSpeed engine
                reference.destroy()
            self.accelerator._models = [model for model in self.accelerator._models if model is not reference]
            free_weights(reference)
            del reference
            clear_device_cache(garbage_collection=True)
        return len(examples)

    def _score_by_reference(self, batch: dict[str, Any]) -> Tensor:
        batch = self._prepare_inputs(batch)
        with self.compute_loss_context_manager():
            sums = self._live_reference_log_probs(self.model_wrapped, batch)
        return torch.stack(list(sums.values()), dim=1)

    def concatenated_forward(self, model, batch: dict[str, Any], is_ref_model: bool = False) -> dict[str, Tensor]:
        """Sums of the answers' token log-probs by sequence name, each (N,) float32. One forward pass."""
        return self._by_name(answer_logps(self._token_logps(model, batch, is_ref_model), batch["answer_lengths_NS"]))

    def _by_name(self, values_NS: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.sequences.names, values_NS.unbind(1)))

    def _token_logps(self, model, batch: dict[str, Any], is_ref_model: bool = False) -> Tensor:
        if "row_groups" not in batch:
            return self._logps_of_rows(model, batch, is_ref_model)
        larger, *others = [partial(self._logps_of_rows, model, rows, is_ref_model) for rows in batch["row_groups"]]
        is_trained = self._smaller_group is not None and torch.is_grad_enabled()
        logps = [self._smaller_group.first(forward) if is_trained else forward() for forward in others]
        return torch.cat([larger(), *logps])[batch["order_A"]]

    def _logps_of_rows(self, model, batch: dict[str, Any], is_ref_model: bool = False) -> Tensor:
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        if "packed_row" not in batch:  # padded rows are for foreign models, which may not know all of these
            inputs = {name: value for name, value in inputs.items() if name in self.forward_parameters}
        if self.noise is not None:
            self.noise.expect(batch)
        of_ref_model = is_ref_model and self.ref_model is not None
        last = self.ref_last_layer if of_ref_model else self.last_layer
        selecting = nullcontext()
        if "packed_row" not in batch:
            owner = below_adapter(self.accelerator.unwrap_model(model))
            selecting = answering_at(owner.get_output_embeddings(), batch["logit_positions_A"])
        targets_A = batch["targets_A"]
        with selecting:
            if last is not None:
                with answering_with_logps(last, targets_A):
                    return model(**inputs, use_cache=False, return_dict=True).logits[0]
            logits = model(**inputs, use_cache=False, return_dict=True).logits
            if logits.shape[:2] != (1, len(targets_A)):  # no output layer to select at
                logits = logits.flatten(0, 1)[batch["logit_positions_A"]][None]
            return token_logps(logits[0], targets_A)

    def compute_reference_log_probs(self, model, batch: dict[str, Any]) -> dict[str, Tensor] | None:
        """Return the reference's sums by sequence name, from its table or live; None for losses without a reference.

        With `solopo_reference: short` a long twin is measured from the short context's.
        """
        if not self.objective.algorithm.needs_reference:
            return None
        if self.reference_table is None:
            sums = self._live_reference_log_probs(model, batch)
        else:
            sums = self._by_name(self.reference_table.lookup(batch["digests"], batch["answer_lengths_NS"].device))
        if self.finetuning_args.solopo_reference == "short":
            sums = {each.name: sums[each.short_twin or each.name] for each in self.sequences}
        return sums

    def _live_reference_log_probs(self, model, batch: dict[str, Any]) -> dict[str, Tensor]:
        """From the reference model, or from the model without its adapter; neither dropout nor noise is part of it."""
        adapter_off = self.accelerator.unwrap_model(model).disable_adapter if self.ref_model is None else nullcontext
        reference = model if self.ref_model is None else self.ref_model
        with torch.no_grad(), adapter_off(), in_eval_mode(reference):
            return self.concatenated_forward(reference, batch, is_ref_model=True)

    def example_losses(self, model, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each example, (N,), and metrics of each example, (N,) each, without gradient.

        The metrics' names and their order depend on the arguments only: the host averages them over processes by
        position.
        """
        ref_sums = self.compute_reference_log_probs(model, batch)  # first: it keeps nothing in memory
        logps_A, lengths_NS = self._token_logps(model, batch), batch["answer_lengths_NS"]
        sums, lengths = self._by_name(answer_logps(logps_A, lengths_NS)), self._by_name(lengths_NS)
        twins, objective, further = self.sequences.long_twins, self.objective, {}
        if self.automatic_alpha is not None:
            alpha = self.automatic_alpha.value
            if model.training and self.automatic_alpha.is_measuring:
                found = pulls(sums, ref_sums, lengths, twins, objective)
                alpha = self.automatic_alpha.of_training(found, last_of_step=self._ends_step)
            objective = replace(objective, alpha=alpha)
            further[metrics.ALPHA] = torch.full_like(sums["chosen"].detach(), alpha)
        losses, logged = solopo_loss(sums, ref_sums, lengths, twins, objective)
        is_end_A = batch["targets_A"] == self.processing_class.eos_token_id
        ends = self._by_name(answer_logps(torch.where(is_end_A, logps_A.detach(), 0.0), lengths_NS))
        return losses, logged | further | {metrics.end_of(name): ends[name] for name in ("chosen", *twins.values())}

    def get_batch_loss_metrics(
        self, model, batch: dict[str, Any], train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the batch's mean loss, with gradient, and its mean metrics.

        Raises:
            ValueError: for a loss that is not a finite number, with `solopo_nonfinite: stop`.
        """
        if "again" in batch:
            return batch["again"].again(partial(self._logps_of_rows, model, batch)), {}
        losses, metrics = self.example_losses(model, batch)
        means = torch.stack([value.mean() for value in metrics.values()])
        numbers = torch.cat([means, losses.detach()]).tolist()  # at once: the loop's one wait for the device
        self.nonfinite.check(
            batch["ids"],
            numbers[len(means) :],
            last=self._ends_step,
            step=self.state.global_step + 1,
        )
        loss = losses.mean()
        if self._smaller_group is not None:
            self._smaller_group.take_gradient(loss)
        return loss, dict(zip(metrics, numbers))

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Keep each example's loss and metrics for `evaluation_loop`; repeated rows at the end are left out."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, metrics = self.example_losses(model, inputs)
        self._eval_metric_names = ["loss", *metrics]
        metrics_NM = torch.stack([losses, *metrics.values()], dim=1)
        self._eval_metrics.append(self.accelerator.gather_for_metrics(metrics_NM))
        return losses.mean(), None, None

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """Evaluate with the same weight for every example; the base class weighs batches by the loader's batch size."""
        self._eval_metrics = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._eval_metrics:
            means = torch.cat(self._eval_metrics).mean(0).tolist()
            names = [f"{metric_key_prefix}_{name}" for name in self._eval_metric_names]
            output.metrics.update(zip(names, means))
            self._eval_metrics = []
        output.metrics.update(self.probe_answers())
        return output

    def probe_answers(self) -> dict[str, float]:
        """Return the metrics of `solopo_probe` at this step; nothing without it, or where this step is probed already."""
        if self.answer_probe is None or self._probed_step == self.state.global_step:
            return {}
        self._probed_step = self.state.global_step
        is_sharded = self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3
        model = self.accelerator.unwrap_model(self.model_wrapped)
        with in_eval_mode(model), self.compute_loss_context_manager():
            return self.answer_probe(model, is_sharded)


@contextmanager
def in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Puts a model into eval mode and each of its modules back into the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def free_weights(model: torch.nn.Module) -> None:
    """Give the memory of a model's weights back while something still holds the model: DeepSpeed keeps it for good."""
    for parameter in model.parameters():
        for tensor in (parameter, getattr(parameter, "ds_tensor", None)):  # ZeRO-3's own part of a sharded weight
            if tensor is not None:
                tensor.data = tensor.data.new_empty(0)


class _ReferenceFirst(TrainerCallback):
    """Computes what the reference table lacks when the model is ready to run, before the first step."""

    def __init__(self, trainer: SolopoTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs) -> None:
        self.trainer.complete_reference_table(train_dataloader)


class _ProbeFirst(TrainerCallback):
    """Asks the model before the first step, or where a run goes on: what later answers are compared with."""

    def __init__(self, trainer: SolopoTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.log(self.trainer.probe_answers())
