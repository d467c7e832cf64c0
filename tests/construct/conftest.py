"""Tokenizers that know the demo corpus: the shared tiny models spend a token on almost every letter of it."""

import pytest

from solopo_llamafactory.tiny import make_tiny_model

from .helpers import demo_questions


@pytest.fixture(scope="session")
def qwen_tokenizer(tmp_path_factory) -> str:
    """Folder of a Qwen2 tokenizer (with a tiny model)."""
    return _make(tmp_path_factory, "qwen2")


@pytest.fixture(scope="session")
def llama_tokenizer(tmp_path_factory) -> str:
    """Folder of a Llama tokenizer (with a tiny model)."""
    return _make(tmp_path_factory, "llama")


def _make(tmp_path_factory, family: str) -> str:
    texts = [doc.text for question in demo_questions() for doc in (*question.evidence, *question.distractors)]
    return make_tiny_model(str(tmp_path_factory.mktemp(family)), family, dict.fromkeys(texts), hidden_size=32)
