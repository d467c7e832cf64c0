"""`solopo build`'s arguments: YAML, overrides, and one sentence for everything that is wrong."""

import pytest

from solopo_llamafactory.construct.arguments import help_text, parse_build_arguments
from solopo_llamafactory.construct.errors import ConstructError

from .helpers import CORPUS, ROOT


GOOD = {"source": "demo", "input": str(CORPUS), "output": "out.jsonl", "tokenizer": "some/folder", "template": "qwen"}


def overrides(**changes) -> list[str]:
    return [f"{key}={value}" for key, value in {**GOOD, **changes}.items()]


def test_yaml_with_overrides(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("\n".join(f"{key}: {value}" for key, value in {**GOOD, "seed": '"7"'}.items()))
    args = parse_build_arguments([str(config), "short_tokens=0", "long_tokens=2048"])
    assert (args.seed, args.short_tokens, args.long_tokens) == (7, 0, 2048)
    assert (args.num_examples, args.responses) == (5000, "templated")


def test_demo_has_a_default_input(monkeypatch):
    monkeypatch.chdir(ROOT)
    args = parse_build_arguments([text for text in overrides() if not text.startswith("input=")])
    assert args.input == "data/demo_corpus.jsonl"


@pytest.mark.parametrize("name", ["demo", "musique_qwen", "musique_llama"])
def test_recipes_parse(monkeypatch, name):
    monkeypatch.chdir(ROOT)
    args = parse_build_arguments([f"recipes/data/{name}.yaml", f"input={CORPUS}"])
    assert args.output == f"data/{'solopo_demo' if name == 'demo' else name}.jsonl"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (overrides(short_token=3), "did you mean `short_tokens`"),
        (overrides(zebra=3), "the keys are source, input"),
        (overrides(source="hotpot"), "source is 'hotpot': write musique or demo"),
        (overrides(responses="sampled"), "responses is 'sampled': write templated"),
        (overrides(short_tokens="many"), "short_tokens is 'many': write a whole number"),
        (overrides(long_tokens="7.5"), "long_tokens is 7.5: write a whole number"),
        (overrides(seed="true"), "seed is True: write a whole number"),
        (overrides(short_tokens=-1), "short_tokens is -1: write 0"),
        (overrides(short_tokens=512, long_tokens=512), "write a number above short_tokens (512)"),
        (overrides(num_examples=0), "num_examples is 0: write 1 or more"),
        (overrides(output="out.json"), "ends in .jsonl"),
        (overrides(output=CORPUS), "same file"),
        (overrides(input="nowhere.jsonl"), "'nowhere.jsonl' is not a file"),
        (overrides(template="null"), "`template` is missing"),
        (overrides(tokenizer="[a, b]"), "tokenizer is ['a', 'b']: write a text value"),
        (["nowhere.yaml"], "'nowhere.yaml' is not a file"),
        (["--seed", "3"], "write [CONFIG.yaml] first"),
        ([*overrides(), "seed"], "'seed' is not understood"),
        (["input={"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_named(argv, words):
    with pytest.raises(ConstructError) as caught:
        parse_build_arguments(argv)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "seed: 1\nseed: 2\n", "output: ${nothing}\n", ""])
def test_bad_yaml_is_named(tmp_path, text):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(ConstructError) as caught:
        parse_build_arguments([str(config)])
    assert "\n" not in str(caught.value)


def test_help_names_every_key():
    for key in ("source", "input", "short_tokens (int, default 1100)", "responses (templated, default templated)"):
        assert f"\n  {key}" in help_text()
