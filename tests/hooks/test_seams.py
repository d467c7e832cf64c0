"""A host that lacks a seam stops this stage, by name, and no other."""

import pytest

from tests.helpers.runs import run_python


@pytest.mark.parametrize(
    "module, name",
    [
        ("llamafactory.data.loader", "_get_merged_dataset"),  # one that is replaced
        ("llamafactory.data.parser", "get_dataset_list"),  # and one that is only called
        ("llamafactory.train.trainer_utils", "create_modelcard_and_push"),
    ],
)
def test_missing_seams_stop_only_this_stage(module, name):
    """A host that moved something: the error names it and the host's version, other stages parse as before."""
    code = f"""
import llamafactory.train.tuner
import {module} as module
del module.{name}
from llamafactory.train.tuner import read_args
read_args({{"stage": "sft"}})
try:
    read_args({{"stage": "solopo"}})
except RuntimeError as err:
    print(err)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert name in result.stdout
    assert "LLaMA-Factory 0.9" in result.stdout


def test_a_parser_without_argument_lists_stops_only_this_stage():
    code = """
import sys, importlib.abc, importlib.util
import solopo_llamafactory.autoload as autoload
join = autoload._join
def breaking(module):
    del module._TRAIN_ARGS
    join(module)
    module._TRAIN_ARGS = []
autoload._join = breaking
from llamafactory.train.tuner import read_args
read_args({"stage": "sft"})
try:
    read_args(["--stage", "solopo"])
except RuntimeError as err:
    print(err)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert "llamafactory.hparams.parser._TRAIN_ARGS" in result.stdout
