"""`solopo_probe`: what is asked and judged, that training does not notice, and the warning."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from solopo_llamafactory.model.probe import use_packed_attention
from solopo_llamafactory.train import answer_probe
from solopo_llamafactory.train.answer_probe import Answered, AnswerProbe, Asked
from tests.helpers.runs import make_rows, read_logs, write_dataset


def rows_with_answers(count: int) -> list[dict]:
    """Rows as `solopo build` writes them; a model that writes any of the tiny tokenizer's commonest letters is right."""
    return [row | {"meta": json.dumps({"answers": ["a"], "wording": "direct"})} for row in make_rows(count)]


@pytest.fixture
def probed(train, tmp_path):
    """Run a training with a probe of 4 pairs and return all that it logged."""

    def run(name: str, rows: list[dict], **overrides) -> list[dict]:
        folder = tmp_path / name
        write_dataset(folder / "data", rows)
        train(
            dataset_dir=str(folder / "data"),
            output_dir=str(folder / "output"),
            **{"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2, **overrides},
        )
        return json.loads((folder / "output" / "trainer_state.json").read_text())["log_history"]

    return run


@pytest.mark.parametrize("method", [{}, {"finetuning_type": "lora"}, {"flash_attn": "disabled"}])
def test_the_model_is_asked_at_the_start_and_at_each_evaluation(method, probed):
    logs = probed("probed", rows_with_answers(16), solopo_probe=4, **method)
    found = [log for log in logs if "probe/cut_off" in log]
    assert [log["step"] for log in found] == [0, 1, 2]
    for log in found:
        assert {"probe/short_sub_em", "probe/long_sub_em", "probe/seconds"} <= log.keys()
        assert 0 <= log["probe/short_sub_em"] <= 1 and log["probe/cut_off"] == 1  # a random model does not end
    assert "eval_loss" in found[1]


def test_training_does_not_notice(probed):
    rows = rows_with_answers(16)
    without, asked = probed("without", rows), probed("with", rows, solopo_probe=4)
    for key in ("loss", "grad_norm", "eval_loss"):
        assert [log[key] for log in asked if key in log] == [log[key] for log in without if key in log]


def test_without_answers_only_cut_off_ones_are_counted(probed, caplog):
    logs = probed("plain", make_rows(16), solopo_probe=4)
    found = [log for log in logs if "probe/cut_off" in log]
    assert found and not any("sub_em" in key for log in found for key in log)


def test_it_draws_its_curves(probed, tmp_path):
    probed("drawn", rows_with_answers(16), solopo_probe=2, plot_loss=True)
    assert (tmp_path / "drawn/output/training_solopo.png").stat().st_size > 10_000


def pairs_of(prompts: list[list[int]], answers: list[str] | None) -> list[Asked]:
    return [Asked({"short": prompt, "long": prompt * 3}, answers, "direct") for prompt in prompts]


@pytest.mark.parametrize("fast", [True, False])
def test_answers_are_those_of_generate(fast, tiny_qwen2, monkeypatch):
    """By our own generation or by transformers', and with the attention of packed rows switched on around it."""
    model = AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    prompts = [[10, 20, 30], [40, 50], [60, 70, 80, 90, 100]]
    expected = [
        model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6, eos_token_id=2, pad_token_id=2)[
            0, len(prompt) :
        ].tolist()
        for prompt in prompts
    ]
    use_packed_attention([model])
    probe = AnswerProbe(pairs_of(prompts, None), tokenizer, {2}, 6)
    with answer_probe.ordinary_attention(model):
        assert probe._generate(model, prompts, is_sharded=not fast) == expected
    assert model.config._attn_implementation.startswith("packed_")


def test_what_is_right_and_what_is_cut_off(tiny_qwen2):
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    end = tokenizer.eos_token_id
    probe = AnswerProbe([], tokenizer, {end}, 8)
    delta = tokenizer("delta", add_special_tokens=False)["input_ids"]
    asked = Asked({}, ["Delta"], "direct")
    assert probe._judge(asked, [*delta, end]) == Answered(is_right=True, cut_off=False)
    assert probe._judge(asked, delta) == Answered(is_right=True, cut_off=True)
    assert probe._judge(Asked({}, ["Ember"], "direct"), [*delta, end]) == Answered(is_right=False, cut_off=False)
    assert probe._judge(Asked({}, None, "direct"), []) == Answered(is_right=None, cut_off=True)


def test_marked_answers_are_judged_behind_their_marker(tiny_qwen2):
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    said = tokenizer("delta is meant. The answer is ember.", add_special_tokens=False)["input_ids"]
    probe = AnswerProbe([], tokenizer, {0}, 8)
    assert probe._judge(Asked({}, ["delta"], "cot"), said).is_right is False
    assert probe._judge(Asked({}, ["delta"], "direct"), said).is_right is True


def test_a_pair_is_picked_evenly_and_answers_get_room(tiny_qwen2):
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    rows = [
        {
            "short_prompt_ids": [i],
            "long_prompt_ids": [i, i],
            "chosen_ids": [1] * (i + 1),
            "rejected_ids": [1],
            "gold": None,
        }
        for i in range(6)
    ]
    held_out = [Dataset.from_list(rows[:4]), Dataset.from_list(rows[4:])]

    class Template:
        def get_stop_token_ids(self, tokenizer):
            return [2]

    probe = AnswerProbe.of(3, held_out, tokenizer, Template())
    assert [pair.prompts["short"] for pair in probe.pairs] == [[0], [2], [4]]
    assert probe.decoding.max_new_tokens == 2 * 5
    assert len(AnswerProbe.of(100, held_out, tokenizer, Template()).pairs) == 6


@pytest.mark.parametrize(
    "before, now, is_told",
    [
        ((True, False), (False, False), True),  # wrong instead of right
        ((True, False), (True, True), True),  # cut off instead of ended
        ((None, False), (None, True), True),  # the same without knowing what is right
        ((False, True), (True, False), False),
        ((True, False), (True, False), False),
    ],
)
def test_it_warns_once_where_answers_get_worse(before, now, is_told, monkeypatch):
    said = []
    monkeypatch.setattr(answer_probe.logger, "warning_rank0", said.append)
    probe = AnswerProbe([], None, {0}, 8)
    for each in (before, now, now):
        probe._compare({name: [Answered(*each)] * 4 for name in ("short", "long")})
    assert len(said) == is_told


@pytest.mark.parametrize("gradient, advised", [("both", True), ("one_sided", False)])
def test_the_warning_advises_what_is_not_in_force(gradient, advised, monkeypatch):
    said = []
    monkeypatch.setattr(answer_probe.logger, "warning_rank0", said.append)
    probe = AnswerProbe([], None, {0}, 8, gradient)
    for right in (True, False):
        probe._compare({name: [Answered(right, False)] * 9 for name in ("short", "long")})
    assert ("set `solopo_gradient: one_sided`" in said[0]) == advised and said[0].endswith(".")


def test_a_few_answers_more_or_less_are_noise(monkeypatch):
    said = []
    monkeypatch.setattr(answer_probe.logger, "warning_rank0", said.append)
    probe = AnswerProbe([], None, {0}, 8)
    right, wrong = Answered(True, False), Answered(False, False)
    probe._compare({"short": [right] * 4 + [wrong] * 2, "long": [right] * 6})
    probe._compare({"short": [wrong] * 4 + [right] * 2, "long": [right] * 6})  # 4 lost, 2 won
    assert said == []


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"solopo_probe": 4}, "`solopo_probe: 4` has no held-out pairs to ask"),
        ({"solopo_probe": "some"}, "is not a number of pairs"),
        ({"solopo_probe": -1}, "is not a number of pairs"),
    ],
)
def test_what_is_refused(overrides, words, refused):
    refused(words, **overrides)


def test_a_resumed_run_probes_where_it_goes_on(probed, train, tmp_path):
    rows = rows_with_answers(16)
    probed("whole", rows, solopo_probe=2, save_strategy="steps", save_steps=1)
    folder = tmp_path / "whole"
    train(
        dataset_dir=str(folder / "data"),
        output_dir=str(tmp_path / "resumed"),
        resume_from_checkpoint=str(folder / "output/checkpoint-1"),
        **{"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2, "solopo_probe": 2},
    )
    losses = [[log["loss"] for log in read_logs(str(path))] for path in (folder / "output", tmp_path / "resumed")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
