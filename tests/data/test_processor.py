"""Tokens are what the host renders, identical after both prompts, and nothing is cut."""

import copy

import pytest
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.processor import PairwiseDatasetProcessor
from llamafactory.data.template import TEMPLATES
from llamafactory.hparams import DataArguments
from transformers import AutoTokenizer

from solopo_llamafactory.data.processor import FEATURES, SolopoDatasetProcessor
from solopo_llamafactory.questions.rendering import Renderer
from tests.helpers.runs import ROOT


def processor_for(path: str, template: str, **arguments) -> SolopoDatasetProcessor:
    tokenizer = AutoTokenizer.from_pretrained(path)
    data_args = DataArguments(template=template, cutoff_len=64, **arguments)
    return SolopoDatasetProcessor(get_template_and_fix_tokenizer(tokenizer, data_args), tokenizer, None, data_args)


def make_row(**change) -> dict:
    user = [{"role": "user", "content": "Where is the fable grove? " * 9}]
    row = {
        "id": "1",
        "data_set": "d",
        "gold": None,
        "short_prompt": user,
        "short_system": "",
        "long_prompt": [{"role": "user", "content": "Amber cedar. " * 50 + user[0]["content"]}],
        "long_system": "",
        "chosen": "North of the jetty.",
        "rejected": "Unknown.",
        "drop_reason": None,
        "drop_value": None,
    }
    return {**row, **change}


def process(processor: SolopoDatasetProcessor, *rows: dict) -> list[dict]:
    columns = processor.preprocess_dataset({key: [row[key] for row in rows] for key in rows[0]})
    assert list(columns) == list(FEATURES)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


@pytest.mark.parametrize("family, template", [("qwen2", "qwen"), ("llama", "llama3")])
def test_tokens_are_the_hosts_own_and_nothing_is_cut(family, template, tiny_qwen2, tiny_llama):
    processor = processor_for({"qwen2": tiny_qwen2, "llama": tiny_llama}[family], template)
    row = make_row()
    (output,) = process(processor, row)
    assert output["drop_reason"] is None
    assert len(output["short_prompt_ids"]) > processor.data_args.cutoff_len

    host = PairwiseDatasetProcessor(
        processor.template, processor.tokenizer, None, DataArguments(template=template, cutoff_len=10**6)
    )
    for view in ("short", "long"):
        chosen_ids, chosen_labels, rejected_ids, _ = host._encode_data_example(
            row[f"{view}_prompt"],
            [{"role": "assistant", "content": row[answer]} for answer in ("chosen", "rejected")],
            "",
            "",
            [],
            [],
            [],
        )
        assert output[f"{view}_prompt_ids"] + output["chosen_ids"] == chosen_ids
        assert output[f"{view}_prompt_ids"] + output["rejected_ids"] == rejected_ids
        assert [label for label in chosen_labels if label != -100] == output["chosen_ids"]


MULTIMODAL = [
    name
    for name, template in TEMPLATES.items()
    if any(getattr(template.mm_plugin, f"{media}_token") for media in ("image", "video", "audio"))
]


class Anything(str):
    """Stands in for a multimodal model's processor, of which text asks nothing: its parts are there."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return {"merge_size": 2, "merge_kernel_size": (2, 2), "image_seq_length": 4}.get(name, Anything(name))


def test_a_good_part_of_the_host_s_templates_takes_media():
    assert {"gemma3", "gemma4", "qwen2_vl", "qwen3_5", "llama4", "mistral_small", "ministral3"} < set(MULTIMODAL)
    assert len(MULTIMODAL) > 40


@pytest.mark.parametrize("template", MULTIMODAL)
def test_text_under_a_multimodal_template_is_tokenised_as_the_host_does(template, tiny_qwen2):
    """The host's dpo stage with the model's processor; here the processor may be absent, as beside text models."""
    stock = TEMPLATES[template]
    TEMPLATES[template] = copy.deepcopy(stock)
    try:
        processor = processor_for(tiny_qwen2, template)
    finally:
        TEMPLATES[template] = stock
    turns = [{"role": "user", "content": "Amber?"}, {"role": "assistant", "content": "Basin."}]
    plain, multi = make_row(short_system="Be short."), make_row()
    multi["short_prompt"] = [*turns, *multi["short_prompt"]]
    for row, output in zip((plain, multi), process(processor, plain, multi)):
        assert output["drop_reason"] is None
        host = PairwiseDatasetProcessor(
            processor.template, processor.tokenizer, Anything("processor"), DataArguments(cutoff_len=10**6)
        )
        for view in ("short", "long"):
            responses = [{"role": "assistant", "content": row[answer]} for answer in ("chosen", "rejected")]
            chosen_ids, _, rejected_ids, _ = host._encode_data_example(
                row[f"{view}_prompt"], responses, row[f"{view}_system"], "", [], [], []
            )
            assert output[f"{view}_prompt_ids"] + output["chosen_ids"] == chosen_ids
            assert output[f"{view}_prompt_ids"] + output["rejected_ids"] == rejected_ids


@pytest.mark.parametrize("template", ["gemma3", "qwen2_vl", "qwen3_5", "llama4", "mistral_small", "qwen"])
def test_the_builder_counts_what_training_sees(template, tiny_qwen2):
    stock = TEMPLATES[template]
    TEMPLATES[template] = copy.deepcopy(stock)
    try:
        (output,) = process(processor_for(tiny_qwen2, template), row := make_row())
        counted = Renderer(tiny_qwen2, template).count(row["long_prompt"][0]["content"])
    finally:
        TEMPLATES[template] = stock
    assert counted == len(output["long_prompt_ids"])


@pytest.mark.parametrize("placeholder", ["<image>", "<video>", "<audio>"])
def test_a_media_placeholder_in_a_text(placeholder, tiny_qwen2):
    """The host stops at one that no medium belongs to, under a multimodal template; under the others it is text."""
    rows = [make_row(chosen=f"{placeholder} of a jetty"), make_row()]
    rows[1]["long_prompt"] = [{"role": "user", "content": f"What is on {placeholder}?"}]
    outputs = process(processor_for(tiny_qwen2, "gemma3"), *rows, make_row(short_system=placeholder))
    assert [output["drop_reason"] for output in outputs] == [
        f"chosen holds the placeholder {placeholder}",
        f"long_prompt holds the placeholder {placeholder}",
        None,
    ]
    assert {output["drop_reason"] for output in process(processor_for(tiny_qwen2, "qwen"), *rows)} == {None}


QWEN = "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "text, rendered",
    [
        (QWEN, True),
        (QWEN.removesuffix("<|im_start|>assistant\n"), True),
        ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|>", True),
        ("<bos><start_of_turn>user\nWhere?<end_of_turn>\n<start_of_turn>model\n", True),
        ("<s>[INST] Where? [/INST]", True),
        ("Where?", False),
        ("<html><body>Where?</body></html>", False),
        ("Below is an instruction.\n\n### Instruction:\nWhere?\n\n### Response:\n", True),
        ("A chat between a user and an assistant. USER: Where? ASSISTANT:", True),
        ("Human: Where?\nAssistant:", True),
        ("Question: where?\nAnswer:", False),
        ("User: Ada, since 1960. The <unk> basin is the user's. Where?", False),
        (f"{'Amber. ' * 99} A turn begins with <|im_start|>user there. {'Amber. ' * 99}", False),
    ],
)
def test_prompts_that_a_chat_template_has_rendered(text, rendered, tiny_qwen2):
    """By a template of any family; with `template: empty` a person renders them on purpose."""
    row = make_row(long_prompt=[{"role": "user", "content": text}])
    for template, expected in (("qwen", rendered), ("empty", False)):
        (output,) = process(processor_for(tiny_qwen2, template), row)
        assert output["drop_reason"] is None and output["is_rendered"] is expected


def test_the_system_message_is_rendered(tiny_qwen2):
    processor = processor_for(tiny_qwen2, "qwen")
    (output,) = process(processor, make_row(short_system="Speak like a mason."))
    assert "Speak like a mason." in processor.tokenizer.decode(output["short_prompt_ids"])
    assert "Speak like a mason." not in processor.tokenizer.decode(output["long_prompt_ids"])


def test_dropped_rows_are_kept_with_their_reason(tiny_qwen2):
    dropped = dict.fromkeys(make_row()) | {"id": "2", "drop_reason": "no chosen"}
    outputs = process(processor_for(tiny_qwen2, "qwen"), dropped, make_row())
    assert [output["drop_reason"] for output in outputs] == ["no chosen", None]
    assert outputs[0]["id"] == "2" and outputs[0]["chosen_ids"] is None


def test_an_answer_that_merges_with_the_prompt_is_dropped(tmp_path):
    """A tokenizer that knows "\\n\\n" as one token: after "assistant\\n", an answer that starts with line breaks moves it."""
    from solopo_llamafactory.model.tiny import make_tiny_model

    path = make_tiny_model(str(tmp_path), "qwen2", ["a\n\nb\n\nc\n\n"] * 50)
    processor = processor_for(path, "qwen")
    merging, plain = process(processor, make_row(rejected="\n\nUnknown."), make_row())
    assert merging["drop_reason"] == "an answer's tokens merge with the prompt's"
    assert plain["drop_reason"] is None


def test_a_tokenizer_of_whole_words_merges_nothing():
    """It loses the white space between prompt and answer, and puts a space between words when it decodes."""
    processor = processor_for(str(ROOT / "data" / "two_hop" / "base"), "chatml")
    texts = {"chosen": "So boss-of Dubufo Gelopu", "rejected": "Look boss-of Dubufo Zosudo"}
    user = [{"role": "user", "content": "Question: home-of boss-of Dubufo"}]
    (output,) = process(processor, make_row(short_prompt=user, long_prompt=user, **texts))
    assert output["drop_reason"] is None


def test_what_a_template_puts_between_prompt_and_answer_counts(tmp_path):
    """With empty thoughts between "assistant\\n" and the answer, line breaks at its start meet those, not the prompt."""
    from solopo_llamafactory.model.tiny import make_tiny_model

    path = make_tiny_model(str(tmp_path), "qwen2", ["a\n\nb\n\nc\n\n"] * 50)
    (output,) = process(processor_for(path, "qwen3"), make_row(rejected="\n\nUnknown."))
    assert output["drop_reason"] is None
    assert processor_for(path, "qwen3").tokenizer.decode(output["rejected_ids"]).startswith("<think>\n\n</think>")


def test_a_reasoning_template_whose_prompt_depends_on_the_answer(tiny_qwen2):
    """Without thinking, the host adds empty thoughts to the prompt, but only where the answer has none."""
    processor = processor_for(tiny_qwen2, "qwen3", enable_thinking=None)
    thinking = make_row(chosen="<think>\nfar\n</think>\n\nNorth.")
    (output,) = process(processor, thinking)
    assert output["drop_reason"] == "prompt tokens depend on the answer"
    (output,) = process(processor, make_row())
    assert output["drop_reason"] is None


def test_the_printed_example_reads_back(tiny_qwen2, capsys):
    processor = processor_for(tiny_qwen2, "qwen")
    (output,) = process(processor, make_row())
    processor.print_data_example(output)
    printed = capsys.readouterr().out
    assert "North of the jetty." in printed and "<|im_start|>assistant" in printed
