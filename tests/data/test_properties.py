"""Whatever a record holds, it is kept whole or dropped under a name: random records through the whole way of the data."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.template import TEMPLATES
from llamafactory.hparams import DataArguments
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from solopo_llamafactory.data.collator import SolopoCollator
from solopo_llamafactory.data.processor import FEATURES, KEPT_COLUMNS, SolopoDatasetProcessor
from solopo_llamafactory.data.sequences import sequences_of
from tests.data.test_converter import convert


# What the texts are made of besides any characters at all.
FRAGMENTS = ["<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\n"]
FRAGMENTS += [
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<think>\n",
    "\n</think>\n\n",
    "{{content}}",
    "{{idx}}",
    "{{system}}",
]
FRAGMENTS += [
    "\0",
    "\x1b[0m",
    "\u200b",
    "\ufeff",
    "\u202e",
    "e\u0301",
    "\U0001f468\u200d\U0001f469",
    "\n\n",
    "  ",
    "\t",
    "1960",
]
FRAGMENTS += ["amber", " basin", "cedar " * 40]
# Arrow holds no lone surrogates (Cs); files with them are refused in hooks/test_data.py.
characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
texts = st.lists(st.sampled_from(FRAGMENTS) | characters, max_size=6).map("".join)
oddities = st.none() | st.integers() | st.floats() | st.booleans() | st.lists(st.integers(), max_size=2)
oddities |= st.dictionaries(st.sampled_from(["role", "content", "x"]), texts | st.integers(), max_size=2)
calls = st.sampled_from(['{"name": "f", "arguments": {"x": "amber"}}', '{"name": "f"}', "[]", "no JSON", "3"])
calls |= st.just('{"name": "f", "arguments": {"x": "\\ud800"}}')


def turns(count: int):
    """Messages in order, a tool call now and then, which a result follows."""
    user = texts.map(lambda text: {"role": "user", "content": text})
    reply = texts.map(lambda text: {"role": "assistant", "content": text})
    call = calls.map(lambda text: {"from": "function_call", "value": text})
    return st.tuples(*((call | reply) if i % 2 else user for i in range(2 * count + 1))).map(list)


odd_message = st.dictionaries(st.sampled_from(["role", "from", "content", "value"]), texts | oddities, max_size=3)
prompts = texts | st.integers(0, 2).flatmap(turns) | st.lists(odd_message, max_size=3) | oddities
sound = st.fixed_dictionaries(
    {"short_prompt": texts, "long_prompt": texts | turns(1), "chosen": texts, "rejected": texts},
    optional={"system": texts},
)
odd = st.fixed_dictionaries(
    {"short_prompt": prompts, "long_prompt": prompts, "chosen": texts | oddities, "rejected": texts | oddities},
    optional={"system": texts | oddities, "id": texts | oddities},
)
REASONS = (
    *("no ", "empty ", "chosen ", "rejected ", "short_prompt ", "long_prompt ", "system is not text"),
    *("prompt tokens depend", "answer tokens depend", "an answer's tokens merge", "the template "),
)


@pytest.fixture
def processor_of(tiny_qwen2, tiny_llama):
    """A processor with one of the host's templates and the tiny tokenizer that speaks it, both left as they were."""

    def build(template: str, tokenizer=None, **arguments) -> SolopoDatasetProcessor:
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(tiny_llama if template == "llama3" else tiny_qwen2)
        stock, TEMPLATES[template] = TEMPLATES[template], copy.deepcopy(TEMPLATES[template])
        try:
            data_args = DataArguments(template=template, **arguments)
            return SolopoDatasetProcessor(
                get_template_and_fix_tokenizer(tokenizer, data_args), tokenizer, None, data_args
            )
        finally:
            TEMPLATES[template] = stock

    return build


def process(processor: SolopoDatasetProcessor, record: dict) -> tuple[dict, dict]:
    """The record after the converter and after the processor."""
    row = convert(record)
    columns = processor.preprocess_dataset({key: [value] for key, value in row.items()})
    return row, {key: value for key, (value,) in columns.items()}


def check_kept_or_named(processor: SolopoDatasetProcessor, record: dict) -> dict:
    """What the processor made of the record, after every promise about it is checked."""
    row, output = process(processor, record)
    assert list(output) == list(FEATURES)
    if output["drop_reason"] is not None:
        assert output["drop_reason"].startswith(REASONS)
        assert {value for key, value in output.items() if key not in KEPT_COLUMNS} == {None}
        return output

    decode, template = processor.tokenizer.decode, processor.template
    for answer in ("chosen", "rejected"):
        text = row[answer] if template.enable_thinking is not False else template.remove_thought(row[answer])
        assert text in decode(output[f"{answer}_ids"])
    for view in ("short", "long"):
        prompt = decode(output[f"{view}_prompt_ids"])
        for message in row[f"{view}_prompt"]:
            assert message["content"] in prompt or message["role"] in ("assistant", "function")  # rendered by rules
        assert row[f"{view}_system"] in prompt
        for answer in ("chosen", "rejected"):
            assert boundary_is_kept(processor.tokenizer, prompt, decode(output[f"{answer}_ids"]))

    content = str([[row[f"{view}_system"], row[f"{view}_prompt"]] for view in ("short", "long")])
    content += row["chosen"] + row["rejected"]
    special = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    assert output["chat_tokens"] == sorted(token for token in special if token in content)

    batch = SolopoCollator(sequences_of("both"), packed=True, pad_token_id=0)([output])
    short, long, chosen, rejected = (
        output[f"{name}_ids"] for name in ("short_prompt", "long_prompt", "chosen", "rejected")
    )
    if short != long:  # the same prompt is in the row once
        assert batch["input_ids"][0].tolist() == short + chosen + rejected + long + chosen
    assert batch["targets_A"].tolist() == chosen + rejected + chosen
    return output


def boundary_is_kept(tokenizer, prompt: str, answer: str) -> bool:
    """Whether a token of the whole text starts where the answer does."""
    encoded = tokenizer(prompt + answer, add_special_tokens=False, return_offsets_mapping=True)
    return any(start == len(prompt) for start, end in encoded["offset_mapping"])


@pytest.mark.parametrize(
    "template, arguments",
    [
        ("qwen", {}),
        ("llama3", {}),
        ("qwen3", {}),
        ("qwen3", {"enable_thinking": False}),
        ("qwen3", {"enable_thinking": None}),
        ("empty", {}),
        ("llama2", {}),
        ("gpt_oss", {}),
    ],
)
def test_records_are_kept_whole_or_dropped_by_name(processor_of, template, arguments):
    processor = processor_of(template, **arguments)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sound | odd)
    def check(record):
        check_kept_or_named(processor, record)

    check()


def plain_record(**change) -> dict:
    words = {"short_prompt": "Where?", "long_prompt": "amber Where?", "chosen": "amber", "rejected": "basin"}
    return {**words, **change}


def test_every_template_of_the_host(processor_of):
    """Two of them end their prompts with a space, which a word that follows takes into its own token."""
    dropped, refused = {}, []
    for name in TEMPLATES:
        processor = processor_of(name)
        try:
            output = check_kept_or_named(processor, plain_record())
        except ValueError as error:
            assert f"`template: {name}` writes tokens that the model's tokenizer does not have" in str(error)
            refused.append(name)
        else:
            if output["drop_reason"] is not None:
                dropped[name] = output["drop_reason"]
    assert dropped == dict.fromkeys(["breeze", "ernie_nothink"], "an answer's tokens merge with the prompt's")
    assert refused == ["chatglm3", "yuan"]


def character_tokenizer(*normalizer, spaces_first: bool = False) -> PreTrainedTokenizerFast:
    """One that knows a few letters, with an unknown token, and, like SentencePiece, may put a space before a text."""
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *"\u2581abcdefghijklmnopqrstuvwxyzW?.:"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    spaces = [normalizers.Prepend("\u2581")] * spaces_first + [normalizers.Replace(" ", "\u2581")]
    tokenizer.normalizer = normalizers.Sequence([*normalizer, *spaces])
    strip = [decoders.Strip(" ", 1, 0)] * spaces_first
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), *strip])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_a_space_before_each_text_changes_no_word(processor_of):
    processor = processor_of("vicuna", character_tokenizer(spaces_first=True))
    row, output = process(processor, plain_record())
    assert output["drop_reason"] is None
    assert processor.tokenizer.decode(output["chosen_ids"]) == "amber</s>"


@pytest.mark.parametrize(
    "change, normalizer, reason",
    [
        ({"chosen": "am\u00f8ber"}, [], "chosen has characters that the tokenizer does not know"),
        ({"short_prompt": "\0"}, [normalizers.Replace("\0", "")], "empty short_prompt"),
        ({"rejected": "\0"}, [normalizers.Replace("\0", "")], "empty rejected"),
    ],
)
def test_a_tokenizer_that_loses_characters(processor_of, change, normalizer, reason):
    processor = processor_of("empty", character_tokenizer(*normalizer))
    _, output = process(processor, plain_record(**change))
    assert output["drop_reason"] == reason


def test_prompts_and_answers_of_one_token(processor_of):
    _, output = process(
        processor_of("empty"), {"short_prompt": "a", "long_prompt": "b", "chosen": "c", "rejected": "d"}
    )
    assert [len(output[f"{name}_ids"]) for name in ("short_prompt", "long_prompt", "chosen", "rejected")] == [
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize(
    "template, change, reason",
    [
        ("qwen", {"short_prompt": "Fill in {{idx}}."}, "the template changes the text of short_prompt"),
        ("qwen3", {"rejected": "<think>\nfar\n</think>\n\n"}, "rejected is nothing but thoughts"),
    ],
)
def test_texts_that_the_host_would_change(processor_of, template, change, reason):
    arguments = {"enable_thinking": False} if template == "qwen3" else {}
    _, output = process(processor_of(template, **arguments), plain_record(**change))
    assert output["drop_reason"] == reason


def test_a_tool_call_that_cannot_be_rendered(processor_of):
    for value in ("no JSON", '{"name": "f"}', '{"name": "f", "arguments": "\\ud800"}'):
        messages = [
            {"role": "user", "content": "a"},
            {"from": "function_call", "value": value},
            {"role": "tool", "content": "b"},
        ]
        _, output = process(processor_of("qwen"), plain_record(long_prompt=messages))
        assert output["drop_reason"] == "the template cannot render a function call"


def test_chat_tokens_in_texts_are_found(processor_of):
    record = plain_record(long_prompt="A page on <|im_start|> and <|im_end|>.", chosen="amber<|endoftext|> basin")
    _, output = process(processor_of("qwen"), record)
    assert output["chat_tokens"] == ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    assert process(processor_of("qwen"), plain_record())[1]["chat_tokens"] == []
