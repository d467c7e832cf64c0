"""Arguments of `solopo eval`: what is refused, in one sentence, before anything is loaded."""

import subprocess
import sys
from functools import partial

import pytest

from solopo_llamafactory.cli import main
from solopo_llamafactory.common.errors import SolopoError
from tests.helpers.evaluation import eval_arguments
from tests.helpers.questions import ROOT


SERVER = {"infer_backend": "openai", "base_url": "http://127.0.0.1:1/v1"}


@pytest.fixture
def make_args(tmp_path):
    return partial(eval_arguments, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": []}, "`models` is missing"),
        ({"models": "base"}, "models is 'base': write a list of mappings"),
        ({"models": [{"model_name_or_path": "x"}]}, "a model has no `name`"),
        (
            {"models": [{"name": "a", "model_name": "x"}]},
            "`model_name` is not a key of a model: did you mean `model_name_or",
        ),
        ({"models": [{"name": "a/b"}]}, "the model name 'a/b' is no file name"),
        ({"models": [{"name": "../a"}]}, "is no file name"),
        ({"models": [{"name": 7}]}, "name is 7: write a text"),
        ({"models": [{"name": "a"}, {"name": "A"}]}, "two models are called 'a'"),
        ({"models": [{"name": "a", "model_name_or_path": "/nowhere/a"}]}, "'/nowhere/a' of model 'a' does not exist"),
        ({"models": [{"name": "a", "adapter_name_or_path": "saves/x/lora"}]}, "'saves/x/lora' of model 'a' does not"),
        (
            {"models": [{"name": "a", **SERVER, "adapter_name_or_path": "x"}]},
            "is asked through a server: write the ad",
        ),
        ({"models": [{"name": "a", "window": 0}]}, "window of model 'a' is 0"),
        ({"models": [{"name": "a", "engine_args": {"temperature": 1}}]}, "engine_args of model 'a' has temperature"),
        ({"models": [{"name": "a", "infer_backend": "openai"}]}, "model 'a': infer_backend is openai and base_url is"),
        ({"models": [{"name": "a", "infer_backend": "tensorrt"}]}, "infer_backend is 'tensorrt': write huggingface"),
        ({"lengths": [2000, 1000]}, r"lengths is \[2000, 1000\]: write numbers of tokens from short to long"),
        ({"lengths": [1000, 1000]}, "each once"),
        ({"lengths": [0, 1000]}, "lengths is"),
        ({"lengths": 1000}, "lengths is 1000: write a list of whole numbers"),
        ({"lengths": [1000, 2.5]}, "write a list of whole numbers"),
        ({"depths": [0, 1.5]}, "depths is .* write numbers from 0 to 1"),
        ({"depths": [-0.1, 1]}, "depths is .* write numbers from 0 to 1"),
        ({"depths": [1, 0]}, "depths is .* write numbers from 0 to 1"),
        ({"depths": [0, 0.5, 0.5000001, 1]}, "depths is .* two are equal to six digits, write only one"),
        ({"depths": [0, "x"]}, "write a list of numbers"),
        ({"num_questions": 0}, "num_questions is 0"),
        ({"batch_size": 0}, "model 'base': batch_size is 0"),
        ({"task": "both"}, "task is 'both': write multi_doc or single_doc"),
        ({"exclude": "nowhere.jsonl"}, "exclude 'nowhere.jsonl' is not a file"),
        ({"output": str(ROOT / "setup.py")}, "is a file: write the name of a folder"),
        ({"output": None}, "`output` is missing"),
        ({"tokenizer": None}, "`tokenizer` is missing"),
        ({"input": None, "source": "musique"}, "`input` is missing"),
    ],
)
def test_what_is_refused(make_args, changes, words):
    with pytest.raises(SolopoError, match=words) as caught:
        make_args(**changes)
    assert "\n" not in str(caught.value)


def test_models_inherit_what_they_do_not_say(make_args):
    args = make_args(models=[{"name": "base"}, {"name": "served", **SERVER, "template": "llama3"}], max_new_tokens=7)
    base, served = args.models
    assert (base.model_name_or_path, base.template, base.infer_backend) == ("some/model", "qwen", "huggingface")
    assert (served.template, args.sampling(served).base_url) == ("llama3", SERVER["base_url"])
    for model in args.models:
        sampling = args.sampling(model)
        assert (sampling.n, sampling.temperature, sampling.max_new_tokens) == (1, 0.0, 7)


def test_a_server_knows_names_that_are_no_paths_here(make_args):
    make_args(models=[{"name": "a", **SERVER, "model_name_or_path": "/data/of/the/server"}])


def test_the_command_refuses_before_anything_heavy(tmp_path):
    config = tmp_path / "eval.yaml"
    config.write_text("length: [1]\n")
    code = (
        f"import sys; from solopo_llamafactory.cli import main; code = main(['eval', {str(config)!r}]); "
        "print(code, [name for name in ('torch', 'transformers', 'llamafactory') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "1 []\n"
    assert done.stderr == "solopo eval: `length` is not a key of solopo eval: did you mean `lengths`?\n"


def test_help_names_the_keys_of_a_run_and_of_a_model(capsys):
    assert main(["eval", "--help"]) == 0
    text = capsys.readouterr().out
    assert "lengths (list of int" in text and "depths (list of float" in text and "adapter_name_or_path (str)" in text


def test_what_looks_like_a_hub_id_in_a_folder_that_is_here_is_a_path(make_args, tmp_path, monkeypatch):
    """`saves/NAME` is where our recipes put models."""
    monkeypatch.chdir(tmp_path)
    make_args(models=[{"name": "a", "model_name_or_path": "saves/x"}])
    (tmp_path / "saves").mkdir()
    with pytest.raises(SolopoError, match="'saves/x' of model 'a' does not exist"):
        make_args(models=[{"name": "a", "model_name_or_path": "saves/x"}])
