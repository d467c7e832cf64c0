"""The stage's arguments, in the host's dataclass style, and every combination that is refused before a model loads."""

import importlib.util
import math
from dataclasses import dataclass, field, fields
from typing import Literal, get_args, get_type_hints

from llamafactory.hparams.finetuning_args import FinetuningArguments

from .. import STAGE
from ..train.objectives import ALGORITHMS, AUTO


TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass
class SolopoArguments:
    r"""Arguments pertaining to the SoLoPO training (`stage: solopo`)."""

    solopo_alpha: str = field(
        default="1.0",
        metadata={
            "help": "Weight of the reward alignment (SoLo-RA) beside the preference loss, or `auto`: found in first steps."
        },
    )
    solopo_align: Literal["chosen", "both"] = field(
        default="chosen",
        metadata={
            "help": (
                "Answers whose rewards are aligned. `chosen` is the paper's, `both` its ablation, in which the rejected "
                "answer's rewards are pulled together as well: under `solopo_gradient: one_sided` only where the long one "
                "is above the short one."
            )
        },
    )
    solopo_distance: Literal["abs", "squared", "huber"] = field(
        default="abs",
        metadata={"help": "Distance between the short and the long reward. `huber` has delta 1."},
    )
    solopo_reference: Literal["short", "matched"] = field(
        default="short",
        metadata={
            "help": (
                "Losses with a reference model: measure the long reward from the reference's log-probability on the "
                "short context (`short`) or on the long one (`matched`, the paper's formula). Counts where there is an "
                "alignment: under `solopo_view: long` the reference reads the long context."
            )
        },
    )
    solopo_gradient: Literal["one_sided", "both", "long", "capped"] = field(
        default="one_sided",
        metadata={
            "help": (
                "Where the alignment's gradient goes: into the long reward alone and only where it lags (`one_sided`), "
                "into both rewards (`both`, the paper's formula), into the long one alone (`long`), or into both, into "
                "the short one only as far as the preference loss outweighs it (`capped`)."
            )
        },
    )
    solopo_view: Literal["both", "long", "short"] = field(
        default="both",
        metadata={
            "help": "`long` or `short`: plain preference optimization on one context through the same packed forward."
        },
    )
    solopo_overlong: Literal["drop", "error"] = field(
        default="drop",
        metadata={"help": "What to do with an example whose prompt and answer exceed `cutoff_len`."},
    )
    solopo_allow_unbounded: bool = field(
        default=False,
        metadata={"help": "Whether or not to allow `pref_loss: ipo` with alignment, which is no bound there."},
    )
    solopo_precompute_ref: bool = field(
        default=True,
        metadata={
            "help": (
                "Losses with a reference model: compute its log-probabilities once before training and keep them on "
                "disk, instead of keeping the model in memory."
            )
        },
    )
    solopo_probe: int = field(
        default=0,
        metadata={
            "help": "Number of held-out pairs whose prompts the model answers at the start and at each evaluation."
        },
    )
    solopo_nonfinite: Literal["stop", "skip"] = field(
        default="stop",
        metadata={"help": "What to do when a loss is NaN or infinite: stop, or leave the optimizer step out."},
    )
    solopo_checkpoint_layers: str = field(
        default="auto",
        metadata={
            "help": "Number of layers that recompute their activations, or `auto`: as few as the GPU's memory demands."
        },
    )
    solopo_tiled_mlp: bool = field(
        default=False,
        metadata={"help": "Whether or not to compute the MLPs tile by tile (DeepSpeed's TiledMLP), for long rows."},
    )


@dataclass
class SolopoFinetuningArguments(SolopoArguments, FinetuningArguments):
    r"""The host's fine-tuning arguments with one more stage. Other stages are parsed exactly as before."""

    stage: Literal[(*get_args(get_type_hints(FinetuningArguments)["stage"]), STAGE)] = field(  # type: ignore[valid-type]
        default="sft",
        metadata={"help": "Which stage will be performed in training."},
    )

    def __post_init__(self):
        super().__post_init__()
        self.use_solopo = self.stage == STAGE
        if self.use_solopo:
            self._convert()
            self._check()
            self.use_ref_model = ALGORITHMS[self.pref_loss].needs_reference
        elif str(self.stage).lower().startswith("solo"):
            raise ValueError(f"There is no `stage: {self.stage}`: write `stage: {STAGE}`.")

    def _convert(self) -> None:
        # The host's YAML parser checks neither types nor choices: `solopo_alpha: "3"` arrives as a string.
        for name in ("solopo_alpha", "pref_beta", "pref_ftx", "pref_bco_weight", "simpo_gamma", "dpo_label_smoothing"):
            value = getattr(self, name)
            if name == "solopo_alpha" and str(value).lower() == AUTO:
                self.solopo_alpha = AUTO
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            if isinstance(value, bool) or not math.isfinite(number):
                other = f", or `{AUTO}`" if name == "solopo_alpha" else ""
                raise ValueError(
                    f"`{name}: {value}` is not a number: write one such as {type(self).__dataclass_fields__[name].default}"
                    f"{other}."
                )
            setattr(self, name, number)

        convert_switches(self)

    def _check(self) -> None:
        choices = {"pref_loss": tuple(ALGORITHMS)}
        choices |= {name: get_args(hint) for name, hint in get_type_hints(SolopoArguments).items() if get_args(hint)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}: {getattr(self, name)}` does not exist under `stage: solopo`: "
                    f"write {', '.join(allowed[:-1])} or {allowed[-1]}."
                )

        self.solopo_checkpoint_layers = str(self.solopo_checkpoint_layers)
        if self.solopo_checkpoint_layers != "auto" and not self.solopo_checkpoint_layers.isdecimal():
            raise ValueError(
                f"`solopo_checkpoint_layers: {self.solopo_checkpoint_layers}` is neither `auto` nor a number of layers: "
                "write one of them."
            )
        if isinstance(self.solopo_probe, bool) or not str(self.solopo_probe).isdecimal():
            raise ValueError(f"`solopo_probe: {self.solopo_probe}` is not a number of pairs: write 0 or more.")
        self.solopo_probe = int(self.solopo_probe)
        if self.solopo_alpha != AUTO and self.solopo_alpha < 0:
            raise ValueError(f"`solopo_alpha: {self.solopo_alpha}` is negative: write 0 or more.")
        if self.pref_beta < 0 or (self.pref_beta == 0 and self.pref_loss != "orpo"):
            raise ValueError(f"`pref_beta: {self.pref_beta}` is too small: write a number greater than 0.")
        if self.pref_ftx < 0:
            raise ValueError(f"`pref_ftx: {self.pref_ftx}` is negative: write 0 or more.")
        if not 0 <= self.dpo_label_smoothing < 0.5:
            raise ValueError(
                f"`dpo_label_smoothing: {self.dpo_label_smoothing}` is outside [0, 0.5): write 0 or a number below 0.5."
            )
        if self.pref_loss != "sigmoid" and self.dpo_label_smoothing > 1e-6:
            raise ValueError("`dpo_label_smoothing` belongs to `pref_loss: sigmoid`: remove it or change the loss.")
        if self.pref_bco_weight != 0:
            raise ValueError("`pref_bco_weight` has no SoLoPO form: remove it, or use `stage: dpo`.")
        if self.ld_alpha is not None:
            raise ValueError("`ld_alpha` has no SoLoPO form: remove it, or use `stage: dpo`.")
        if self.pissa_init and ALGORITHMS[self.pref_loss].needs_reference:
            raise ValueError(
                f"`pissa_init` changes the base weights that `pref_loss: {self.pref_loss}` needs as its reference: "
                "remove it, or use `pref_loss: orpo` or `simpo`."
            )
        aligned = self.solopo_view == "both" and (self.solopo_alpha == AUTO or self.solopo_alpha > 0)
        if aligned and not ALGORITHMS[self.pref_loss].bounded and not self.solopo_allow_unbounded:
            raise ValueError(
                f"With `pref_loss: {self.pref_loss}` the alignment does not bound the long loss (its square is not "
                "Lipschitz): set `solopo_allow_unbounded: true` to run it all the same, or `solopo_alpha: 0`."
            )


def convert_switches(arguments) -> None:
    """Turn text in the fields of type bool into True or False: "false" would count as true."""
    hints = get_type_hints(type(arguments))
    for name in (each.name for each in fields(arguments)):
        value = getattr(arguments, name)
        if hints[name] in (bool, bool | None) and value is not None and not isinstance(value, bool):
            word = str(value).lower()
            if word not in TRUE_WORDS + FALSE_WORDS:
                raise ValueError(f"`{name}: {value}` is neither true nor false: write one of them.")
            setattr(arguments, name, word in TRUE_WORDS)


def check_run(model_args, data_args, training_args, finetuning_args) -> None:
    """Refuse what `stage: solopo` cannot do, each in a sentence that says what to write instead.

    Raises:
        ValueError: for the first such argument.
    """
    convert_switches(data_args)
    for name in ("cutoff_len", "max_samples"):
        value = getattr(data_args, name)
        if value is None and name == "max_samples":
            continue
        if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
            advice = "1 or more tokens" if name == "cutoff_len" else "1 or more rows, or remove it to use all"
            raise ValueError(f"`{name}: {value}` is not possible: write {advice}.")
        setattr(data_args, name, int(value))

    refused = {
        "neat_packing": (data_args.neat_packing, "remove it: the stage packs a device batch into one row by itself"),
        "packing": (data_args.packing, "remove it: the stage packs a device batch into one row by itself"),
        "streaming": (data_args.streaming, "remove it and set `tokenized_path` to tokenise once and read from disk"),
        "do_predict": (training_args.do_predict, "train first and generate with `llamafactory-cli chat` or `api`"),
        "compute_accuracy": (finetuning_args.compute_accuracy, "remove it: `rewards/accuracies` is always logged"),
        "use_dft_loss": (finetuning_args.use_dft_loss, "remove it: it is a loss for `stage: sft`"),
        "use_eaft_loss": (finetuning_args.use_eaft_loss, "remove it: it is a loss for `stage: sft`"),
        "use_asft_loss": (finetuning_args.use_asft_loss, "remove it: it is a loss for `stage: sft`"),
        "label_smoothing_factor": (
            float(training_args.label_smoothing_factor) != 0,
            "remove it, or set `dpo_label_smoothing` with `pref_loss: sigmoid`",
        ),
        "fp8": (training_args.fp8, "use `bf16: true`"),
        "fp8_enable_fsdp_float8_all_gather": (training_args.fp8_enable_fsdp_float8_all_gather, "use `bf16: true`"),
        "train_sampling_strategy": (
            training_args.train_sampling_strategy == "group_by_length",
            "remove `group_by_length`: a packed row has no padding to save",
        ),
        "rope_scaling": (
            model_args.rope_scaling == "dynamic",
            "write `rope_scaling: yarn`, since dynamic frequencies follow the longest sequence of a batch, and short and "
            "long contexts share one",
        ),
        "use_hyper_parallel": (finetuning_args.use_hyper_parallel, "use `deepspeed` for several GPUs"),
        "use_kt": (model_args.use_kt, "use `deepspeed` with offload for models larger than memory"),
        "use_unsloth": (model_args.use_unsloth, "remove it: its kernels do not take a packed row"),
        "mixture_of_depths": (model_args.mixture_of_depths is not None, "remove it: it changes the attention"),
        "shift_attn": (model_args.shift_attn, "remove it: long contexts keep full attention here"),
    }
    for name, (is_set, advice) in refused.items():
        if is_set:
            raise ValueError(f"`{name}` does not work with `stage: solopo`: {advice}.")
    if finetuning_args.solopo_nonfinite == "skip" and (
        finetuning_args.galore_layerwise or finetuning_args.apollo_layerwise or "lomo" in str(training_args.optim)
    ):
        raise ValueError(
            "`solopo_nonfinite: skip` leaves out a step of the optimizer, and this one (layerwise GaLore or APOLLO, "
            "LOMO) steps in the backward pass: remove the argument, or choose another optimizer."
        )
    number = finetuning_args.solopo_checkpoint_layers
    if model_args.disable_gradient_checkpointing and number not in ("auto", "0"):
        raise ValueError(
            f"`disable_gradient_checkpointing: true` recomputes no layer: remove it, or `solopo_checkpoint_layers: "
            f"{number}`."
        )
    if finetuning_args.solopo_probe:
        evaluates = training_args.do_eval or str(getattr(training_args.eval_strategy, "value", "no")) != "no"
        if not evaluates or not (data_args.eval_dataset or data_args.val_size or data_args.tokenized_path):
            raise ValueError(
                f"`solopo_probe: {finetuning_args.solopo_probe}` has no held-out pairs to ask: set `eval_dataset` or "
                "`val_size`, and `eval_strategy: steps`."
            )
        if training_args.fsdp:
            raise ValueError(
                "`solopo_probe` does not work with FSDP, whose models cannot be asked while they train: remove it, or use "
                "`deepspeed`."
            )
    if finetuning_args.solopo_tiled_mlp:
        if importlib.util.find_spec("deepspeed") is None:
            raise ValueError("`solopo_tiled_mlp` needs DeepSpeed: install `deepspeed`, or remove the argument.")
        if training_args.world_size > 1 and not training_args.deepspeed:
            raise ValueError(
                "`solopo_tiled_mlp` adds to a gradient several times, which DDP and FSDP do not take: set `deepspeed`, "
                "or remove the argument."
            )
