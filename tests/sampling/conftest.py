"""Arguments of a tiny model, and a client that does not wait long."""

import pytest

from solopo_llamafactory.construct.arguments import BuildArguments
from tests.helpers.sampling import arguments, write_contexts


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


@pytest.fixture
def short_pauses(monkeypatch):
    """Between the repetitions of a request; and no key of whoever runs the tests."""
    client = pytest.importorskip("openai._base_client")
    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
