"""The `solopo` command: exit codes, one-sentence errors, and a start without heavy imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from solopo_llamafactory import __version__
from solopo_llamafactory.cli import demo_texts, main


ROOT = Path(__file__).parents[1]


def test_help_and_version(capsys):
    assert (
        main([])
        == main(["--help"])
        == main(["build", "--help"])
        == main(["eval", "-h"])
        == main(["tiny-model", "-h"])
        == 0
    )
    text = capsys.readouterr().out
    assert "build [CONFIG.yaml]" in text and "short_tokens" in text and "family=qwen2|llama" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"solopo-llamafactory {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["bild"],
            "'bild' is not a command: write build, synthesize, sample, select, report, init, eval, compare or tiny-model",
        ),
        (["build", "nowhere.yaml"], "solopo build: 'nowhere.yaml' is not a file"),
        (["build", "short_token=3"], "did you mean `short_tokens`?"),
        (["eval", "lengths=[3]"], "solopo eval: `models` is missing"),
        (["tiny-model", "out", "family=gpt"], "family is 'gpt': write qwen2 or llama"),
        (["tiny-model", "out", "llama"], "write family=qwen2 or family=llama"),
        (["tiny-model", "family=llama"], "give the output folder first"),
        (["init", "family=llama"], "'family=llama' is not understood: write one folder, such as my_solopo"),
        (["init", "a", "b"], "'b' is not understood: write one folder"),
    ],
)
def test_errors_are_one_sentence(argv, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused_before_anything_heavy():
    code = (
        "import sys; from solopo_llamafactory.cli import main; code = main(['build', 'seed=x']); "
        "print(code, [name for name in ('torch', 'transformers', 'llamafactory') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "1 []\n" and done.stderr == "solopo build: seed is 'x': write a whole number, such as 42.\n"


def test_output_into_a_closed_pipe():
    command = f"{sys.executable} -m solopo_llamafactory.cli build --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""


def test_demo_texts(monkeypatch):
    monkeypatch.chdir(ROOT)
    texts = demo_texts()
    assert len(texts) == len(set(texts)) > 250
