"""`solopo build`'s arguments: YAML, overrides, and one sentence for everything that is wrong."""

import pytest

from solopo_llamafactory.common.config import help_text, parse
from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from tests.helpers.questions import CORPUS, ROOT


GOOD = {
    "source": "musique",
    "input": str(CORPUS),
    "output": "out.jsonl",
    "tokenizer": "some/folder",
    "template": "qwen",
}


def overrides(**changes) -> list[str]:
    return [f"{key}={value}" for key, value in {**GOOD, **changes}.items()]


def test_yaml_with_overrides(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("\n".join(f"{key}: {value}" for key, value in {**GOOD, "seed": '"7"'}.items()))
    args = parse(BuildArguments, [str(config), "short_tokens=0", "long_tokens=2048"])
    assert (args.seed, args.short_tokens, args.long_tokens) == (7, 0, 2048)
    assert (args.num_examples, args.infer_backend, args.n, args.temperature) == (5000, "huggingface", 32, 0.85)
    assert args.model_name_or_path == "some/folder" and args.dataset_name == "out" and args.contexts_wanted == 10_000
    assert str(args.contexts_path) == "out.build/contexts.jsonl" and str(args.held_out_path) == "out_heldout.jsonl"


def test_long_tokens_may_be_several():
    assert parse(BuildArguments, overrides(long_tokens="[4000,8000]")).long_budgets == [4000, 8000]
    assert parse(BuildArguments, overrides(long_tokens=4000)).long_budgets == [4000]


@pytest.mark.parametrize("name", ["musique_qwen", "musique_llama"])
def test_recipes_parse(monkeypatch, name):
    monkeypatch.chdir(ROOT)
    args = parse(BuildArguments, [f"recipes/data/{name}.yaml", f"input={CORPUS}"])
    assert args.output == f"data/{name}.jsonl"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (overrides(short_token=3), "did you mean `short_tokens`"),
        (overrides(zebra=3), "the keys are source, input"),
        (
            overrides(source="hotpot"),
            "source is 'hotpot': write musique, hotpotqa, 2wikimultihopqa, squad, generic or two_hop",
        ),
        (overrides(infer_backend="sampled"), "infer_backend is 'sampled': write huggingface, vllm, sglang or openai"),
        (overrides(infer_backend="openai"), "write both `infer_backend: openai` and the server's `base_url`"),
        (overrides(base_url="http://127.0.0.1/v1"), "write both `infer_backend: openai` and the server's `base_url`"),
        (overrides(temperature="hot"), "temperature is 'hot': write a number, such as 0.85"),
        (overrides(temperature=-1), "temperature is -1.0: write 0 or more"),
        (overrides(top_p=0), "top_p is 0.0: write a number above 0"),
        (overrides(n=0), "n is 0: write 1 or more"),
        (overrides(num_contexts=0), "num_contexts is 0: write 1 or more, or leave it out"),
        (overrides(verify="no-way"), "verify is 'no-way': write true or false"),
        (overrides(engine_args="[1]"), "engine_args is [1]: write a mapping"),
        (overrides(corpus="nowhere.jsonl"), "corpus 'nowhere.jsonl' is not a file"),
        (overrides(long_tokens="[4000,100]"), "write a number above short_tokens (1100)"),
        (overrides(long_tokens="[4000,x]"), "write a whole number or a list of whole numbers"),
        (overrides(short_tokens="many"), "short_tokens is 'many': write a whole number"),
        (overrides(long_tokens="7.5"), "long_tokens is 7.5: write a whole number or a list"),
        (overrides(seed="true"), "seed is True: write a whole number"),
        (overrides(short_tokens=-1), "short_tokens is -1: write 0"),
        (overrides(short_tokens=512, long_tokens=512), "write a number above short_tokens (512)"),
        (overrides(num_examples=0), "num_examples is 0: write 1 or more"),
        (overrides(output="out.json"), "ends in .jsonl"),
        (overrides(output=CORPUS), "same file"),
        (overrides(dataset_info=ROOT), "is a folder: write the name of its JSON file"),
        (overrides(temperature="nan"), "temperature is nan: write 0 or more"),
        (overrides(input="null"), "`input` is missing"),
        (overrides(output="a [v2].jsonl"), "write a name without any of * ? [ ] and ::"),
        (overrides(output="a*.jsonl"), "write a name without any of * ? [ ] and ::"),
        (overrides(output="a::b.jsonl"), "write a name without any of * ? [ ] and ::"),
        (overrides(dataset_name="a,b"), "dataset_name is 'a,b': write letters, digits and any of . - _ alone"),
        (overrides(dataset_name="a b"), "dataset_name is 'a b': write letters, digits and any of . - _ alone"),
        (overrides(timeout="inf"), "timeout is inf: write seconds above 0"),
        (overrides(template="null"), "`template` is missing"),
        (overrides(tokenizer="[a, b]"), "tokenizer is ['a', 'b']: write a text"),
        (["nowhere.yaml"], "'nowhere.yaml' is not a file"),
        (["--seed", "3"], "write [CONFIG.yaml] first"),
        ([*overrides(), "seed"], "'seed' is not understood"),
        (["input={"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_named(argv, words):
    with pytest.raises(SolopoError) as caught:
        parse(BuildArguments, argv)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "seed: 1\nseed: 2\n", "output: ${nothing}\n", ""])
def test_bad_yaml_is_named(tmp_path, text):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(SolopoError) as caught:
        parse(BuildArguments, [str(config)])
    assert "\n" not in str(caught.value)


def test_help_names_every_key():
    for key in (
        "source",
        "input",
        "short_tokens (int, default 1100)",
        "infer_backend (huggingface|vllm|sglang|openai, default huggingface)",
    ):
        assert f"\n  {key}" in help_text(BuildArguments, "solopo build")
