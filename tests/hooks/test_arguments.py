"""Arguments are converted and refused before anything loads, each refusal in one sentence."""

import importlib.util
from typing import get_args, get_type_hints

import pytest

from solopo_llamafactory.hooks.arguments import SolopoArguments, SolopoFinetuningArguments
from solopo_llamafactory.train.alignment import GRADIENTS
from solopo_llamafactory.train.objectives import ALGORITHMS, Objective
from tests.helpers.runs import run_host


def parse(**arguments) -> SolopoFinetuningArguments:
    return SolopoFinetuningArguments(stage="solopo", finetuning_type="full", **arguments)


def test_text_from_yaml_is_converted():
    args = parse(solopo_alpha="3", pref_beta="2.5", solopo_tiled_mlp="true", solopo_allow_unbounded="no")
    assert args.solopo_alpha == 3.0 and args.pref_beta == 2.5
    assert args.solopo_tiled_mlp is True and args.solopo_allow_unbounded is False


@pytest.mark.parametrize("text", ["auto", "Auto"])
def test_alpha_may_be_found(text):
    assert parse(solopo_alpha=text).solopo_alpha == "auto"


@pytest.mark.parametrize(
    "pref_loss, needed", [("sigmoid", True), ("hinge", True), ("ipo", True), ("orpo", False), ("simpo", False)]
)
def test_reference_model_by_loss(pref_loss, needed):
    assert parse(pref_loss=pref_loss, solopo_allow_unbounded=True).use_ref_model is needed


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"pref_loss": "kto_pair"}, "write sigmoid, hinge, ipo, orpo or simpo"),
        ({"pref_loss": "orpoo"}, "`pref_loss: orpoo`"),
        ({"solopo_alpha": -1}, "negative"),
        ({"solopo_alpha": "high"}, "`solopo_alpha: high` is not a number"),
        ({"solopo_alpha": float("nan")}, "not a number"),
        ({"solopo_alpha": True}, "not a number"),
        ({"solopo_align": "rejected"}, "write chosen or both"),
        ({"solopo_distance": "l1"}, "write abs, squared or huber"),
        ({"solopo_reference": "long"}, "write short or matched"),
        ({"solopo_view": "medium"}, "write both, long or short"),
        ({"solopo_overlong": "cut"}, "write drop or error"),
        ({"solopo_nonfinite": "ignore"}, "write stop or skip"),
        ({"solopo_gradient": "short"}, "write one_sided, both, long or capped"),
        ({"solopo_alpha": "automatic"}, "write one such as 1.0, or `auto`"),
        ({"solopo_tiled_mlp": "sometimes"}, "neither true nor false"),
        ({"solopo_checkpoint_layers": "all"}, "neither `auto` nor a number of layers"),
        ({"solopo_checkpoint_layers": -1}, "neither `auto` nor a number of layers"),
        ({"solopo_checkpoint_layers": True}, "neither `auto` nor a number of layers"),
        ({"pref_beta": 0}, "greater than 0"),
        ({"pref_ftx": -1}, "negative"),
        ({"dpo_label_smoothing": 0.7}, "outside [0, 0.5)"),
        ({"pref_loss": "orpo", "dpo_label_smoothing": 0.1}, "belongs to `pref_loss: sigmoid`"),
        ({"pref_bco_weight": 1}, "use `stage: dpo`"),
        ({"ld_alpha": 0.5}, "use `stage: dpo`"),
        ({"pref_loss": "ipo"}, "solopo_allow_unbounded: true"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ValueError) as error:
        parse(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_defaults_are_the_objectives():
    """The table of arguments, the objective and the words in the log know one default, the first choice of each list."""
    args = parse()
    assert (args.solopo_gradient, args.solopo_reference) == ("one_sided", "short")
    assert args.solopo_gradient == Objective(ALGORITHMS["orpo"]).gradient == next(iter(GRADIENTS))
    for name, hint in get_type_hints(SolopoArguments).items():
        if get_args(hint):
            assert getattr(args, name) == get_args(hint)[0], name


@pytest.mark.parametrize("reference", ["short", "matched"])
@pytest.mark.parametrize("view", ["long", "short"])
def test_a_single_view_takes_either_reference(view, reference):
    assert parse(solopo_view=view, solopo_reference=reference).use_ref_model


def test_ipo_runs_where_nothing_is_to_be_bounded():
    parse(pref_loss="ipo", solopo_alpha=0)
    parse(pref_loss="ipo", solopo_view="long")
    parse(pref_loss="ipo", solopo_allow_unbounded=True)


def test_pissa_needs_a_loss_without_reference():
    lora = {"stage": "solopo", "finetuning_type": "lora", "pissa_init": True}
    SolopoFinetuningArguments(pref_loss="orpo", **lora)
    with pytest.raises(ValueError, match="pissa_init"):
        SolopoFinetuningArguments(pref_loss="sigmoid", **lora)


def test_text_in_the_hosts_fields_is_converted(arguments):
    from llamafactory.hparams import get_train_args

    parsed = get_train_args(arguments(cutoff_len="300", max_samples="4", plot_loss="false", disable_shuffling="yes"))
    assert (parsed[1].cutoff_len, parsed[1].max_samples) == (300, 4)
    assert parsed[3].plot_loss is False and parsed[3].disable_shuffling is True
    for cutoff_len in (None, "long", 0, 1.5):
        with pytest.raises(ValueError, match="`cutoff_len: "):
            get_train_args(arguments(cutoff_len=cutoff_len))


def test_a_misspelt_stage_is_named():
    with pytest.raises(ValueError, match="write `stage: solopo`"):
        SolopoFinetuningArguments(stage="solopoo")


def test_other_stages_are_parsed_as_before():
    """Our fields mean nothing there, whatever stands in them, and the host's defaults are the host's."""
    from llamafactory.hparams import FinetuningArguments

    for stage in ("pt", "sft", "rm", "dpo", "kto"):
        host = FinetuningArguments(stage=stage)
        ours = SolopoFinetuningArguments(stage=stage, solopo_alpha="nonsense", solopo_view="nonsense")
        assert {key: ours.to_dict()[key] for key in host.to_dict()} == host.to_dict()
        assert ours.use_ref_model == host.use_ref_model


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"packing": True}, "`packing`"),
        ({"neat_packing": True}, "`neat_packing`"),
        ({"streaming": True}, "tokenized_path"),
        ({"do_predict": True, "eval_dataset": "pairs"}, "llamafactory-cli chat"),
        ({"compute_accuracy": True}, "rewards/accuracies"),
        ({"use_hyper_parallel": True}, "deepspeed"),
        ({"use_kt": True}, "use_kt"),
        ({"use_unsloth": True}, "use_unsloth"),
        ({"mixture_of_depths": "convert"}, "mixture_of_depths"),
        ({"shift_attn": True}, "shift_attn"),
        ({"pref_loss": "kto_pair"}, "kto_pair"),
        ({"use_dft_loss": True}, "`use_dft_loss`"),
        ({"use_eaft_loss": True}, "`use_eaft_loss`"),
        ({"use_asft_loss": True}, "`use_asft_loss`"),
        ({"label_smoothing_factor": 0.1}, "set `dpo_label_smoothing`"),
        ({"fp8": True}, "use `bf16: true`"),
        ({"train_sampling_strategy": "group_by_length"}, "remove `group_by_length`"),
        ({"rope_scaling": "dynamic"}, "write `rope_scaling: yarn`"),
        ({"max_samples": -1}, "write 1 or more rows, or remove it to use all"),
        ({"max_samples": "all"}, "write 1 or more rows, or remove it to use all"),
        ({"cutoff_len": 0}, "write 1 or more tokens"),
        ({"disable_gradient_checkpointing": True, "solopo_checkpoint_layers": 1}, "or `solopo_checkpoint_layers: 1`"),
    ],
)
def test_combinations_are_refused_before_anything_is_written(changed, words, arguments, tmp_path):
    with pytest.raises(ValueError) as error:
        run_host(arguments(**changed))
    assert words in str(error.value)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("missing, words", [(True, "needs DeepSpeed"), (False, "DDP and FSDP do not take")])
def test_tiled_mlps_need_deepspeed(missing, words, arguments, monkeypatch):
    from llamafactory.hparams.training_args import TrainingArguments

    if missing:
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "deepspeed" else find_spec(name, *rest)
        )
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match=words):
        run_host(arguments(solopo_tiled_mlp=True))
