"""What is no answer in a sampled text: thoughts, end marks and control tokens are told from it, whatever the family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.select import judge
from solopo_llamafactory.questions.sub_em import sub_em
from solopo_llamafactory.sampling.base import Sample
from solopo_llamafactory.sampling.marks import EMPTY, ONLY_THOUGHTS, UNCLOSED, Marks, make_marks, remarks
from tests.helpers.questions import CORPUS


FAMILIES = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


def arguments(tokenizer: str, **changes) -> BuildArguments:
    values = {"input": str(CORPUS), "output": "x.jsonl", "tokenizer": tokenizer, "template": "qwen", **changes}
    return BuildArguments(**values)


@pytest.fixture(scope="module")
def marks(qwen_tokenizer) -> Marks:
    """Of the template qwen, as a build makes them."""
    return marks_of(qwen_tokenizer)


def marks_of(folder: str, remove_thoughts: bool = False, **changes) -> Marks:
    from solopo_llamafactory.questions.rendering import Renderer

    args = arguments(folder, **changes)
    return make_marks(args, Renderer(folder, args.template).tokenizer, remove_thoughts=remove_thoughts)


@pytest.mark.parametrize(("opening", "closing"), FAMILIES)
@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("{o}\nIt is Bo. The answer is Bo.\n{c}\n\nIt is Ada.", "It is Ada."),
        ("It is Bo. The answer is Bo.\n{c}It is Ada.", "It is Ada."),  # opened in the prompt
        ("{o}Bo{c}Bo. {o}Bo{c} It is Ada.", "It is Ada."),  # repeated
        ("{o}Bo {o}Bo{c} Bo{c}It is Ada.", "It is Ada."),  # nested
        ("{o}{c}It is Ada.", "It is Ada."),
        ("It is Ada.", "It is Ada."),
        ("{o}The answer is Ada.", ""),
        ("The answer is Ada. {o}Or is it", ""),
        ("{o}Bo{c}The answer is Ada. {o}Or is it", ""),
        ("{o}The answer is Ada.{c}\n\n", ""),
        ("The answer is Ada.{c}", ""),
    ],
)
def test_the_answer_is_what_follows_the_thoughts(marks, opening, closing, written, answer):
    text = written.format(o=opening, c=closing)
    reading = marks.read(text)
    assert reading.answer == answer and (reading.problem is None) == bool(answer)
    assert reading.text == text.strip()  # kept as sampled
    assert sub_em(reading.answer, ["Ada"]) == bool(answer) and not sub_em(reading.answer, ["Bo"])


@pytest.mark.parametrize(("opening", "closing"), FAMILIES)
def test_thoughts_are_removed_from_both_answers_of_a_pair(qwen_tokenizer, opening, closing):
    samples = [
        Sample(f"{opening}\nhm {i}\n{closing}\n\nThe answer is {name}.", "stop") for i, name in enumerate("AABB")
    ]
    kept = judge(samples, ["A"], marks_of(qwen_tokenizer))
    assert [each.text for each in kept.right + kept.wrong] == [each.text for each in samples]
    removed = judge(samples, ["A"], marks_of(qwen_tokenizer, remove_thoughts=True))
    assert [each.text for each in removed.right] == ["The answer is A."]  # equal ones once
    assert [each.text for each in removed.wrong] == ["The answer is B."]


def test_further_marks_are_given_by_argument(qwen_tokenizer):
    text = "<reason>Bo</reason> Ada"
    assert marks_of(qwen_tokenizer).read(text).answer == text
    assert marks_of(qwen_tokenizer, thought_words=["<reason>", "</reason>"]).read(text).answer == "Ada"
    with pytest.raises(SolopoError, match="thought_words is .*: write an opening and a closing mark"):
        arguments("x", thought_words=["<reason>"])
    with pytest.raises(SolopoError, match="thought_words is 'a': write a list of texts"):
        arguments("x", thought_words="a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", EMPTY),
        (" \n\t", EMPTY),
        ("<|im_end|>", EMPTY),
        ("<think>so", UNCLOSED),
        ("<think>so</think> ", ONLY_THOUGHTS),
        ("so</think><|im_end|>", ONLY_THOUGHTS),
    ],
)
def test_no_answer_is_named(marks, text, problem):
    reading = marks.read(text)
    assert (reading.answer, reading.problem) == ("", problem) and marks.no_answer(text) == problem


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", " \n<|im_end|>", "<|im_end|><|im_end|>"])
def test_the_templates_own_end_is_removed(marks, end):
    reading = marks.read(f"<think>hm</think>It is Ada.{end}")
    assert (reading.text, reading.end_mark, reading.problem) == ("<think>hm</think>It is Ada.", True, None)


@pytest.mark.parametrize(
    "token", ["<|eot_id|>", "</s>", "<end_of_turn>", "<|im_start|>", "<|end|>", "<turn|>", "<eos>"]
)
@pytest.mark.parametrize("text", ["It is Ada.{}", "It {} is Ada.", "{}It is Ada.", "<think>{}</think>It is Ada."])
def test_any_other_control_token_makes_a_sample_unusable(marks, token, text):
    reading = marks.read(text.format(token))
    assert reading.problem == f"control token {token}" and sub_em(reading.answer, ["Ada"])
    judged = judge([Sample(text.format(token), "stop"), Sample("It is Bo", "stop")], ["Ada"], marks)
    assert not judged.right and judged.problem == "correct samples all unusable" and len(judged.wrong) == 1


def test_the_templates_end_within_a_text_is_a_control_token(marks):
    assert marks.read("It is Ada.<|im_end|>\n<|im_start|>user").problem.startswith("control token <|im_")
    assert marks.read("It is<|im_end|> Ada.").problem == "control token <|im_end|>"


@pytest.mark.parametrize(
    ("template", "end"), [("llama3", "<|eot_id|>"), ("gemma", "<end_of_turn>"), ("phi", "<|end|>")]
)
def test_the_end_is_that_of_the_template(qwen_tokenizer, template, end):
    assert marks_of(qwen_tokenizer, template=template).read(f"Ada{end}").problem is None


@pytest.mark.parametrize(
    "text", ["a < b | c > d", "x |> f", "<b>Ada</b>", "<tool_call>{}</tool_call>", "if (a<b||c>d)"]
)
def test_other_signs_are_no_control_tokens(marks, text):
    assert marks.read(text).problem is None


@given(st.lists(st.sampled_from(["<think>", "</think>", "Ada", " ", "<|im_end|>", "<|eot_id|>", "\n"])).map("".join))
def test_any_order_of_marks(text):
    plain = Marks(ends=("<|im_end|>",))
    reading = plain.read(text)
    assert "think>" not in reading.answer and reading.answer in reading.text
    assert bool(reading.answer) == (reading.problem is None or reading.problem.startswith("control token"))
    assert not reading.text.endswith("<|im_end|>")
    removed = Marks(ends=("<|im_end|>",), remove_thoughts=True).read(text)
    assert removed.text == removed.answer == reading.answer


def test_remarks():
    problems = {EMPTY: 1000, UNCLOSED: 2, "control token </s>": 3, "control token <eos>": 1, "ended by tool_calls": 5}
    empty, control, ended, ends = remarks(problems, 7, 2000, "and enter no pair")
    assert "1,002 of 2,000 answers hold no answer (1,000 empty, 2 thoughts without an end): " in empty[1]
    assert "4 of 2,000 answers hold a control token (3 </s>, 1 <eos>) and enter no pair: " in control[1]
    assert ended[1] == (
        "5 of 2,000 answers were ended by the server (5 tool_calls) and enter no pair: look for the server's filters and tools."
    )
    assert (empty[0], control[0], ends) == (
        False,
        False,
        (True, "7 of 2,000 answers came with the template's end mark, which is removed."),
    )
    assert list(remarks({}, 0, 0, "")) == []


@pytest.mark.parametrize(
    ("finish", "problem"), [("stop", None), ("length", "cut off"), ("content_filter", "ended by content_filter")]
)
def test_an_answer_that_is_not_whole_enters_no_pair(finish, problem):
    assert Marks().read("It is Ada.", finish).problem == problem and Marks().no_answer("It is Ada.") is None
    judged = judge([Sample("It is Ada.", finish), Sample("It is Bo.", "stop")], ["Ada"])
    assert (judged.num_right, len(judged.right)) == (1, problem is None)
    assert judged.cut_off == (finish == "length") and bool(judged.unusable) == (finish == "content_filter")
