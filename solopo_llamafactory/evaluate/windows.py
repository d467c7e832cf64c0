"""Which lengths of a grid a model cannot take."""

from collections.abc import Iterable


def lengths_beyond(contexts: Iterable[tuple[int, int]], max_new_tokens: int, window: int | None) -> set[int]:
    """Return the lengths at which a prompt and its answer exceed the model's window.

    One is enough: the others of its length, shorter by chance, would be an easier choice of questions.

    Args:
        contexts: (length, tokens) of each prompt.
        window: tokens that the model takes, prompt and answer together; None where that is not known.
    """
    return {length for length, tokens in contexts if window is not None and tokens + max_new_tokens > window}
