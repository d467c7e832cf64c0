"""The stage is seen wherever it is asked for, and what comes before anything is parsed."""

import os

import pytest

from tests.helpers.runs import run_host, run_python


def test_help_shows_the_arguments():
    """`llamafactory-cli train --help`, and with it `--stage solopo` on the command line."""
    result = run_python("import sys; sys.argv = ['x', 'train', '--help']; from llamafactory.cli import main; main()")
    assert result.returncode == 0, result.stderr
    for argument in ("--solopo_alpha", "--solopo_align {chosen,both}", "--solopo_view {both,long,short}"):
        assert argument in result.stdout
    assert "dpo,kto,solopo}" in result.stdout


def test_stage_on_the_command_line(arguments):
    from llamafactory.hparams import get_train_args

    words = [word for key, value in arguments(solopo_alpha=2).items() for word in (f"--{key}", str(value))]
    parsed = get_train_args(words)
    assert parsed[3].stage == "solopo"
    assert parsed[3].solopo_alpha == 2.0


@pytest.mark.parametrize(
    "stage, variable, expected",
    [
        ("solopo", {}, "expandable_segments:True"),
        ("solopo", {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}, "max_split_size_mb:512"),
        ("solopo", {"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}, None),
        ("dpo", {}, None),
    ],
)
def test_memory_segments_may_grow_under_our_stage_only(stage, variable, expected, monkeypatch):
    from llamafactory.hparams.parser import read_args

    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    read_args({"stage": stage})
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") == expected


def test_megatron_is_refused(monkeypatch, arguments):
    monkeypatch.setenv("USE_MCA", "1")
    with pytest.raises(ValueError, match="unset USE_MCA"):
        run_host(arguments())


def test_version_one_of_the_host_is_refused(tmp_path):
    code = """
import torch  # as the host's launcher does first
from llamafactory.v1.config.arg_parser import get_args
try:
    get_args({"stage": "solopo"})
except ValueError as err:
    print(err)
"""
    result = run_python(code)
    assert "unset USE_V1" in result.stdout, result.stderr
