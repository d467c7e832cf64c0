"""Sampling with the host's engines: the same bytes whatever ran before, right ends, and clear errors."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.sampling import engine
from solopo_llamafactory.sampling.base import Sample, SampleError, seed_of
from solopo_llamafactory.sampling.engine import EngineSampler
from tests.helpers.sampling import LENGTHS, arguments, question, refuse_question_1, run_engine, uneven


def test_a_run_in_pieces_gives_the_same_bytes(make_args):
    import torch

    whole = run_engine(make_args("whole"))
    pieces = make_args("pieces")
    assert run_engine(pieces, until="q1") == b"".join(whole.splitlines(keepends=True)[:2])
    torch.rand(7)
    assert run_engine(pieces) == whole
    assert run_engine(make_args("other seed", seed=43)) != whole


def test_samples_differ_within_and_between_groups_and_questions(make_args):
    sampler = EngineSampler(make_args())
    first, second = sampler(question(0)), sampler(question(1))
    assert len(first) == len(second) == 5
    assert len({each.text for each in first + second}) == 10


def test_greedy_generates_once_and_repeats(make_args, monkeypatch):
    sampler = EngineSampler(make_args(temperature=0))
    counts = []
    generate = EngineSampler._generate

    def counting(self, rows, count, seed):
        counts.append(count)
        return generate(self, rows, count, seed)

    monkeypatch.setattr(EngineSampler, "_generate", counting)
    samples = sampler(question(0))
    assert counts == [1] and len(samples) == 5 and len(set(samples)) == 1
    assert sampler(question(0)) == samples


def test_engine_args_beat_ours(make_args):
    sampler = EngineSampler(make_args(engine_args={"do_sample": False, "max_new_tokens": 3}))
    assert len({each.text for each in sampler(question(0))}) == 1
    generating = sampler.chat_model.engine.generating_args
    assert (generating["max_new_tokens"], generating["top_k"], generating["top_p"]) == (3, 0, 1.0)


def test_the_models_own_sampling_defaults_do_not_enter(make_args, qwen_tokenizer, tmp_path):
    """Whatever its generation_config.json says, a model answers as without that file."""
    folder = shutil.copytree(qwen_tokenizer, tmp_path / "with defaults")
    plain = [EngineSampler(make_args(f"plain {t}", temperature=t, model_name_or_path=qwen_tokenizer)) for t in (0, 1)]
    wanted = [sampler(question(0)) for sampler in plain]
    known = json.loads((folder / "generation_config.json").read_text())
    defaults = {"no_repeat_ngram_size": 1, "min_p": 0.9, "typical_p": 0.1, "suppress_tokens": list(range(5, 400))}
    defaults |= {"repetition_penalty": 1.9, "top_k": 1, "top_p": 0.1, "temperature": 9.0, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(known | defaults))
    for temperature, answers in zip((0, 1), wanted):
        sampler = EngineSampler(
            make_args(f"own {temperature}", temperature=temperature, model_name_or_path=str(folder))
        )
        assert sampler(question(0)) == answers
        assert sampler.chat_model.engine.model.generation_config.eos_token_id == known["eos_token_id"]


def test_thoughts_are_told_apart_where_their_marks_are_special_tokens(make_args, monkeypatch):
    """Special tokens are left out of an answer, but for those."""
    sampler = EngineSampler(make_args(n=1, samples_per_call=1))
    engine = sampler.chat_model.engine
    opening, closing = "<|im_start|>", "<|endoftext|>"
    engine.template = dataclasses.replace(engine.template, thought_words=(opening, closing), stop_words=["<|im_end|>"])
    written = f"{opening}so{closing}It is Ada.<|im_end|><|im_end|>"
    tokens = engine.tokenizer(written, add_special_tokens=False, return_tensors="pt")["input_ids"]
    monkeypatch.setattr(engine.model, "generate", lambda inputs, **options: torch.cat([inputs, tokens], dim=1))
    (answer,) = sampler(question(0))
    assert answer == Sample(f"{opening}so{closing}It is Ada.", "stop")


def test_every_end_of_the_template_is_an_end(make_args, monkeypatch):
    assert {each.finish for each in EngineSampler(make_args())(question(0))} == {"length"}
    from llamafactory.data.template import Template

    monkeypatch.setattr(Template, "get_stop_token_ids", lambda self, tokenizer: list(range(3, len(tokenizer), 2)))
    sampler = EngineSampler(make_args(samples_per_call=5))
    assert {each.finish for each in sampler(question(0))} == {"stop"}
    # What the host says of such answers, shorter than they may be.
    (response,) = sampler.chat_model.chat([{"role": "user", "content": "Where?"}])
    assert response.response_length < 12 and response.finish_reason == "length"


def test_one_answer_is_the_hosts_own(make_args):
    """The same tokens with the same seed as the host's chat gives."""
    import torch

    sampler = EngineSampler(make_args(n=3, samples_per_call=3))
    ours = sampler(question(0))
    torch.manual_seed(seed_of(sampler.args, question(0), 0))
    messages = [{"role": "user", "content": question(0)["prompt"]}]
    theirs = sampler.chat_model.chat(messages, num_return_sequences=3)
    assert [each.text for each in ours] == [each.response_text for each in theirs]


def test_a_batch_answers_as_one_by_one(make_args, monkeypatch):
    from llamafactory.data.template import Template

    # Some answers end early, others do not: what follows an end is padding.
    monkeypatch.setattr(Template, "get_stop_token_ids", lambda self, tokenizer: list(range(3, len(tokenizer), 9)))
    args = make_args(temperature=0, n=1, batch_size=len(LENGTHS), max_new_tokens=24)
    sampler = EngineSampler(args)
    rows = uneven(args)
    alone = [sampler(row) for row in rows]
    assert sampler.together(rows) == alone
    assert len({each.text for (each,) in alone}) > 3
    assert {each.finish for (each,) in alone} == {"stop", "length"}


def test_a_batch_stopped_in_its_middle_gives_the_same_bytes(make_args):
    def run_uneven(name: str, until: str = "", **changes) -> bytes:
        args = make_args(name, n=3, **changes)
        uneven(args)
        return run_engine(args, until)

    whole = run_uneven("whole", batch_size=3)
    lines = whole.splitlines(keepends=True)
    assert len(lines) == len(LENGTHS)
    for kept in (1, 2, 4):  # in the first batch, and in the second
        assert run_uneven(f"after {kept}", until=f"q{kept - 1}", batch_size=3) == b"".join(lines[:kept])
        assert run_uneven(f"after {kept}", batch_size=3) == whole
    with pytest.raises(SolopoError, match="made with other settings"):
        run_uneven("whole", batch_size=2)


def test_a_prompt_that_is_refused_fails_alone(make_args, monkeypatch):
    args = make_args(n=2, batch_size=3)
    sampler = EngineSampler(args)
    refuse_question_1(monkeypatch, sampler.chat_model.engine)
    first, second, third = sampler.together([question(i) for i in range(3)])
    assert len(first) == len(third) == 2 and isinstance(second, SampleError) and "no such prompt" in str(second)


def test_a_closed_model_is_gone(make_args):
    import gc
    import weakref

    sampler = EngineSampler(make_args(n=1))
    before = sampler(question(0))
    model, loop = weakref.ref(sampler.chat_model.engine.model), sampler.chat_model._thread
    sampler.close()
    gc.collect()
    assert model() is None and not loop.is_alive()
    assert sampler(question(0)) == before


def test_ctrl_c_ends_a_generation_under_way(make_args):
    sampler = EngineSampler(make_args(max_new_tokens=8000, n=1))
    sampler.chat_model  # loaded

    def interrupt():
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    start = time.monotonic()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        sampler(question(0))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_name_or_path": "/nowhere/at/all"}, "model '/nowhere/at/all' cannot be loaded"),
        ({"engine_args": {"zebra": 1}}, "zebra"),
        ({"adapter_name_or_path": "/nowhere/adapter"}, "/nowhere/adapter"),
        ({"template": "qwenn"}, "qwenn"),
    ],
)
def test_what_cannot_be_loaded_is_named(make_args, changes, words):
    with pytest.raises(SolopoError) as caught:
        EngineSampler(make_args(**changes))(question(0))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SolopoError, match="vllm is not installed: run `pip install vllm`"):
        EngineSampler(arguments(tmp_path, infer_backend="vllm"))


class FakeChatModel:
    """A vllm or sglang engine: gives at most `most` answers, or refuses."""

    def __init__(self, most: int = 99, refuses: bool = False, **response) -> None:
        generating_args = {"do_sample": True, "temperature": 0.85, "max_new_tokens": 10}
        self.engine = SimpleNamespace(generating_args=generating_args, model_args=SimpleNamespace(sglang_maxlen=100))
        self.most, self.refuses, self.counts = most, refuses, []
        self.response = {"response_text": "Esk", "response_length": 4, "prompt_length": 20, **response}

    def chat(self, messages, num_return_sequences=1):
        if self.refuses:
            raise ValueError("the prompt is too long")
        self.counts.append(num_return_sequences)
        return [SimpleNamespace(**self.response)] * min(self.most, num_return_sequences)

    async def achat(self, messages, **kwargs):
        return self.chat(messages, **kwargs)


@pytest.fixture
def fake_engine(tmp_path, monkeypatch):
    def make(backend: str, **options):
        chat_model = FakeChatModel(**options)
        monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: True)
        monkeypatch.setattr(engine, "_load", lambda args: chat_model)
        return EngineSampler(arguments(tmp_path, infer_backend=backend, n=5, samples_per_call=2)), chat_model

    return make


def test_fewer_answers_than_asked_for_are_made_up_for(fake_engine):
    for most, counts in ((99, [2, 2, 1]), (1, [2, 2, 2, 2, 1])):
        sampler, chat_model = fake_engine("vllm", most=most, finish_reason="stop")
        assert sampler(question(0)) == [Sample("Esk", "stop")] * 5 and chat_model.counts == counts
        assert sampler.workers == 16
    sampler, chat_model = fake_engine("vllm", most=0)
    with pytest.raises(SampleError, match="no answer"):
        sampler(question(0))


@pytest.mark.parametrize(
    ("response", "finish"),
    [
        ({"response_length": 9}, "stop"),
        ({"response_length": 10}, "length"),
        ({"response_length": 8, "prompt_length": 90}, "length"),
    ],
)
def test_sglang_is_asked_one_by_one_and_ends_are_told_by_length(fake_engine, response, finish):
    sampler, chat_model = fake_engine("sglang", finish_reason="length", **response)
    assert sampler(question(0)) == [Sample("Esk", finish)] * 5 and chat_model.counts == [1] * 5


def test_a_prompt_that_an_engine_refuses_is_left_out(fake_engine):
    sampler, _ = fake_engine("vllm", refuses=True)
    with pytest.raises(SampleError, match="q0 is refused by the engine .the prompt is too long"):
        sampler(question(0))


@pytest.mark.parametrize(
    ("rope", "window"),
    [
        ({"rope_type": "default"}, 32768),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 32768),
    ],
)
def test_yarn_in_a_models_configuration_widens_its_window(rope, window):
    """Qwen's documented way leaves max_position_embeddings as it was."""
    from types import SimpleNamespace

    from solopo_llamafactory.host.chat import window_of

    config = SimpleNamespace(max_position_embeddings=32768, rope_parameters=rope)
    config.get_text_config = lambda: config
    engine = SimpleNamespace(name="huggingface", model=SimpleNamespace(config=config))
    assert window_of(SimpleNamespace(engine=engine)) == window
