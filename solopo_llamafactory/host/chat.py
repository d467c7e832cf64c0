"""LLaMA-Factory's chat engines, which only sampling needs (so not in imports.py, which training loads)."""

import os


VERBOSITY = "LLAMAFACTORY_VERBOSITY"


def load_chat_model(arguments: dict):
    """The host's chat model from its own inference arguments. Loading it takes a while."""
    from llamafactory.chat import ChatModel

    asked_for = os.environ.get(VERBOSITY)
    os.environ[VERBOSITY] = asked_for or "WARN"  # or transformers prints every file that it reads
    try:
        return ChatModel(arguments)
    finally:
        if asked_for is None:
            del os.environ[VERBOSITY]
