"""Arguments of other trainers and misspelt ones are told what to write, those of other stages are left to the host."""

import dataclasses

import pytest

from solopo_llamafactory.hooks.unknown_keys import ELSEWHERE, WITHOUT_EFFECT, refuse_unknown_keys
from tests.helpers.runs import run_host


def known_fields() -> set[str]:
    from llamafactory.hparams import parser

    from solopo_llamafactory.hooks.arguments import SolopoArguments

    return {field.name for each in (*parser._TRAIN_ARGS, SolopoArguments) for field in dataclasses.fields(each)}


def test_what_we_advise_exists_and_what_we_know_does_not():
    known = known_fields()
    assert known & set(ELSEWHERE) == WITHOUT_EFFECT
    for advice in ELSEWHERE.values():
        if advice.startswith("write `"):
            assert advice.split("`")[1].split(":")[0] in known


@pytest.mark.parametrize(
    "key, words",
    [
        ("sequence_parallel_size", "each GPU computes rows of its own"),
        ("loss_type", "write `pref_loss`"),
        ("max_length", "write `cutoff_len`"),
        ("evaluation_strategy", "write `eval_strategy`"),
        ("solopo_alhpa", "did you mean `solopo_alpha`?"),
        ("distance", "did you mean `solopo_distance`?"),
        ("learning_rte", "did you mean `learning_rate`?"),
        ("batch_size", "write `per_device_train_batch_size`"),
        ("epochs", "write `num_train_epochs`"),
        ("solopo_beta", "write `pref_beta`"),
        ("frobnicate", "`frobnicate` (remove it, or look in the README"),
    ],
)
def test_the_sentence_says_what_to_write(key, words, arguments):
    for args in (arguments(**{key: 2}), [f"--{key}", "2", *_as_words(arguments())], ["--stage=solopo", f"--{key}=2"]):
        with pytest.raises(ValueError) as error:
            run_host(args)
        assert words in str(error.value) and f"`{key}`" in str(error.value)
        assert "\n" not in str(error.value)


def _as_words(args: dict) -> list[str]:
    return [word for key, value in args.items() for word in (f"--{key}", str(value))]


def test_all_unknown_keys_are_named_at_once(arguments):
    with pytest.raises(ValueError, match="`beta` .write `pref_beta`., none `max_seq_length` .write `cutoff_len`.\\.$"):
        run_host(arguments(beta=0.1, max_seq_length=8192))


def test_the_hosts_switch_for_extra_keys_holds(arguments, monkeypatch):
    from llamafactory.hparams import get_train_args

    monkeypatch.setenv("ALLOW_EXTRA_ARGS", "1")
    assert get_train_args(arguments(beta=0.1))[3].stage == "solopo"


def test_argparse_may_take_the_beginning_of_a_name():
    from llamafactory.hparams import parser

    refuse_unknown_keys(["--learning-rat", "1", "--no_use_fast_tokenizer"], parser._TRAIN_ARGS)


def test_other_stages_hear_the_host(arguments):
    with pytest.raises(ValueError, match="HfArgumentParser"):
        run_host(arguments(stage="dpo", beta=0.1))
