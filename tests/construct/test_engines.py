"""Sampling with the host's engines: the same bytes whatever ran before, right ends, and clear errors."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from solopo_llamafactory.construct import engines
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.engines import EngineSampler
from solopo_llamafactory.construct.errors import ConstructError
from solopo_llamafactory.construct.sampling import Sample, SampleError, sample

from .test_sampling import arguments, context, write_contexts


@pytest.fixture
def make_args(tmp_path, qwen_tokenizer):
    """Arguments for a tiny model in a folder of their own."""

    def make(name: str = "run", **changes) -> BuildArguments:
        (tmp_path / name).mkdir(exist_ok=True)
        values = {"tokenizer": qwen_tokenizer, "n": 5, "samples_per_call": 2, "max_new_tokens": 12, **changes}
        args = arguments(tmp_path / name, **values)
        write_contexts(args, 4)
        return args

    return make


def run(args: BuildArguments, until: str = "") -> bytes:
    sample(args, EngineSampler(args), lambda row, samples: row["id"] == until, wanted=1)
    return args.samples_path.read_bytes()


def test_a_run_in_pieces_gives_the_same_bytes(make_args):
    import torch

    whole = run(make_args("whole"))
    pieces = make_args("pieces")
    assert run(pieces, until="q1") == b"".join(whole.splitlines(keepends=True)[:2])
    torch.rand(7)
    assert run(pieces) == whole
    assert run(make_args("other seed", seed=43)) != whole


def test_samples_differ_within_and_between_groups_and_questions(make_args):
    sampler = EngineSampler(make_args())
    first, second = sampler(context(0)), sampler(context(1))
    assert len(first) == len(second) == 5
    assert len({each.text for each in first + second}) == 10


def test_greedy_generates_once_and_repeats(make_args, monkeypatch):
    sampler = EngineSampler(make_args(temperature=0))
    counts = []
    generate = engines.Generation.samples

    def counting(self, chat_model, messages, count, seed):
        counts.append(count)
        return generate(self, chat_model, messages, count, seed)

    monkeypatch.setattr(engines.Generation, "samples", counting)
    samples = sampler(context(0))
    assert counts == [1] and len(samples) == 5 and len(set(samples)) == 1
    assert sampler(context(0)) == samples


def test_engine_args_beat_ours(make_args):
    sampler = EngineSampler(make_args(engine_args={"do_sample": False, "max_new_tokens": 3}))
    assert len({each.text for each in sampler(context(0))}) == 1
    generating = sampler.chat_model.engine.generating_args
    assert (generating["max_new_tokens"], generating["top_k"], generating["top_p"]) == (3, 0, 1.0)


def test_every_end_of_the_template_is_an_end(make_args, monkeypatch):
    assert {each.finish for each in EngineSampler(make_args())(context(0))} == {"length"}
    from llamafactory.data.template import Template

    monkeypatch.setattr(Template, "get_stop_token_ids", lambda self, tokenizer: list(range(3, len(tokenizer), 2)))
    sampler = EngineSampler(make_args(samples_per_call=5))
    assert {each.finish for each in sampler(context(0))} == {"stop"}
    # What the host says of such answers, shorter than they may be.
    (response,) = sampler.chat_model.chat([{"role": "user", "content": "Where?"}])
    assert response.response_length < 12 and response.finish_reason == "length"


def test_ctrl_c_ends_a_generation_under_way(make_args):
    sampler = EngineSampler(make_args(max_new_tokens=8000, n=1))
    engine = sampler.chat_model.engine

    def interrupt():
        while not engine.semaphore.locked():
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        sampler(context(0))
    start = time.monotonic()
    while engine.semaphore.locked() and time.monotonic() - start < 60:
        time.sleep(0.01)
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
    with pytest.raises(ConstructError) as caught:
        EngineSampler(make_args(**changes))(context(0))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConstructError, match="vllm is not installed: run `pip install vllm`"):
        EngineSampler(arguments(tmp_path, infer_backend="vllm"))
    with pytest.raises(ConstructError, match="the huggingface engine gives no log-probs"):
        EngineSampler(arguments(tmp_path, policy="likeliest"))


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
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: True)
        monkeypatch.setattr(engines, "_load", lambda args: chat_model)
        return EngineSampler(arguments(tmp_path, infer_backend=backend, n=5, samples_per_call=2)), chat_model

    return make


def test_fewer_answers_than_asked_for_are_made_up_for(fake_engine):
    for most, counts in ((99, [2, 2, 1]), (1, [2, 2, 2, 2, 1])):
        sampler, chat_model = fake_engine("vllm", most=most, finish_reason="stop")
        assert sampler(context(0)) == [Sample("Esk", "stop")] * 5 and chat_model.counts == counts
        assert sampler.workers == 16
    sampler, chat_model = fake_engine("vllm", most=0)
    with pytest.raises(SampleError, match="no answer"):
        sampler(context(0))


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
    assert sampler(context(0)) == [Sample("Esk", finish)] * 5 and chat_model.counts == [1] * 5


def test_a_prompt_that_an_engine_refuses_is_left_out(fake_engine):
    sampler, _ = fake_engine("vllm", refuses=True)
    with pytest.raises(SampleError, match="q0 is refused by the engine .the prompt is too long"):
        sampler(context(0))
