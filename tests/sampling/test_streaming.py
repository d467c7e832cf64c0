"""Sampling by our own generation through the product: the host's prompts and texts, whole or in pieces, and who is left out."""

import os
import signal

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.synthesize import read_short_contexts
from solopo_llamafactory.generation.rows import Rows
from solopo_llamafactory.sampling import streaming
from solopo_llamafactory.sampling.base import Sample, SampleError
from solopo_llamafactory.sampling.engine import EngineSampler
from tests.helpers.questions import write_lines
from tests.helpers.sampling import LENGTHS, context, question, refuse_question_1, run_engine, uneven


def stream(args: BuildArguments, rows: list[dict], sampler: EngineSampler | None = None) -> dict[str, list[Sample]]:
    """All rows' samples by our generation."""
    answers = (sampler or EngineSampler(args)).stream(rows, {row["id"]: row for row in rows})
    assert answers is not None
    return {row["id"]: samples for row, samples in answers}


def many_ends(monkeypatch, every: int = 9) -> None:
    from llamafactory.data.template import Template

    monkeypatch.setattr(Template, "get_stop_token_ids", lambda self, tokenizer: list(range(3, len(tokenizer), every)))


def test_greedy_answers_are_the_hosts(make_args, monkeypatch):
    many_ends(monkeypatch)
    args = make_args(temperature=0, n=2, max_new_tokens=24)
    rows, sampler = uneven(args), EngineSampler(args)
    alone = {row["id"]: sampler(row) for row in rows}
    assert stream(args, rows, sampler) == alone
    assert {samples[0].finish for samples in alone.values()} == {"stop", "length"}


def test_samples_do_not_depend_on_what_is_asked_beside_them(make_args):
    args = make_args()
    rows = uneven(args)
    together = stream(args, rows)
    assert list(together) == [row["id"] for row in rows]
    assert {len(samples) for samples in together.values()} == {5}
    assert len({each.text for samples in together.values() for each in samples}) == 5 * len(LENGTHS)
    assert stream(args, rows[2:3]) == {rows[2]["id"]: together[rows[2]["id"]]}
    assert stream(make_args(batch_size=2), rows) == together
    assert stream(make_args(seed=43), rows).keys() == together.keys()
    assert stream(make_args(seed=43), rows) != together


def test_stopped_and_gone_on_with_it_writes_the_same_bytes(make_args):
    def run_uneven(name: str, until: str = "") -> bytes:
        args = make_args(name, n=3)
        uneven(args)
        return run_engine(args, until)

    whole = run_uneven("whole")
    lines = whole.splitlines(keepends=True)
    assert len(lines) == len(LENGTHS)
    for kept in (1, 3, 4):
        assert run_uneven(f"after {kept}", until=f"q{kept - 1}") == b"".join(lines[:kept])
        assert run_uneven(f"after {kept}") == whole


@pytest.mark.parametrize(
    ("engine_args", "word"),
    [({"repetition_penalty": 1.3}, "repetition_penalty"), ({"num_beams": 2}, "num_beams")],
)
def test_what_only_the_host_does_is_left_to_it_with_one_line(make_args, capsys, engine_args, word):
    args = make_args(engine_args=engine_args, n=2)
    assert len(run_engine(args).splitlines()) == 4
    told = [
        line for line in capsys.readouterr().err.splitlines() if "Answers come from transformers' generate" in line
    ]
    assert len(told) == 1 and word in told[0]


def test_engine_args_reach_the_answers(make_args):
    rows = [question(0)]
    (samples,) = stream(make_args(engine_args={"do_sample": False, "max_new_tokens": 3}), rows).values()
    assert len(samples) == 5 and len(set(samples)) == 1 and samples[0].finish == "length"
    drawn = stream(make_args(engine_args={"top_k": 1}), rows)["q0"]  # the likeliest token alone
    assert len(set(drawn)) == 1 and drawn != samples


def test_an_adapter_answers(make_args, qwen_tokenizer, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(qwen_tokenizer)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, target_modules="all-linear")
    )
    adapted.save_pretrained(tmp_path / "adapter")
    args = make_args(temperature=0, n=1, adapter_name_or_path=str(tmp_path / "adapter"))
    sampler = EngineSampler(args)
    found = stream(args, [question(0)], sampler)
    assert found == {"q0": sampler(question(0))} != stream(make_args(temperature=0, n=1), [question(0)])


def test_an_adapter_that_is_not_merged_answers(make_args, qwen_tokenizer):
    """As on quantised weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    args = make_args(temperature=0, n=1)
    sampler = EngineSampler(args)
    plain = sampler(question(0))
    engine = sampler.chat_model.engine
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, target_modules="all-linear")
    engine.model = get_peft_model(engine.model, lora).eval()
    assert stream(args, [question(0)], sampler) == {"q0": sampler(question(0))} != {"q0": plain}


def test_half_precision_is_computed_in_float32_on_a_cpu(make_args, qwen_tokenizer, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(qwen_tokenizer, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(qwen_tokenizer).save_pretrained(tmp_path / "half")
    sampler = EngineSampler(make_args(model_name_or_path=str(tmp_path / "half")))
    model = sampler.chat_model.engine.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32} and model.dtype == torch.float32


def test_a_prompt_that_is_refused_fails_alone(make_args, monkeypatch):
    args = make_args(n=2)
    sampler = EngineSampler(args)
    refuse_question_1(monkeypatch, sampler.chat_model.engine)
    first, second, third = stream(args, [question(i) for i in range(3)], sampler).values()
    assert len(first) == len(third) == 2 and isinstance(second, SampleError) and "no such prompt" in str(second)
    assert isinstance(stream(args, [question(1)], sampler)["q1"], SampleError)


def test_too_little_memory_for_one_answer_is_one_sentence(make_args, monkeypatch):
    import torch

    def none(*args):
        raise torch.OutOfMemoryError("no memory")
        yield

    monkeypatch.setattr(streaming, "generate", none)
    with pytest.raises(SolopoError, match="too small for one answer at a time"):
        stream(make_args(), [question(0)])


def test_ctrl_c_ends_it(make_args, monkeypatch):
    """It comes while answers grow, and no further step is taken."""
    steps = []
    grow = Rows.grow

    def interrupted(self, count):
        steps.append(count)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return grow(self, count)

    monkeypatch.setattr(Rows, "grow", interrupted)
    args = make_args(max_new_tokens=400, n=1)
    with pytest.raises(KeyboardInterrupt):
        stream(args, [question(0)], EngineSampler(args))
    assert len(steps) == 2


def test_the_samples_file_is_in_the_order_of_the_contexts(make_args):
    args = make_args(n=1)
    rows = [context(i, short_prompt=f"{'the hall ' * (60 - 10 * i)}{i}?") for i in range(6)]
    write_lines(args.contexts_path, *rows)
    run_engine(args)
    assert [row["id"] for row in read_short_contexts(args)] == [f"q{i}" for i in range(6)]
    ids = [line.split('"')[3] for line in args.samples_path.read_text().splitlines()]
    assert ids == [f"q{i}" for i in range(6)]
