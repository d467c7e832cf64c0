"""From the tokens that a model in this process has generated to samples."""

from collections.abc import Sequence
from typing import Any

from .base import Sample


def samples_of(engine: Any, generation_config: Any, answers: Sequence[Sequence[int]]) -> list[Sample]:
    """Answers of the huggingface engine's model as texts; what follows an end is padding."""
    ends = set(engine.template.get_stop_token_ids(engine.tokenizer))
    lengths = [next((i for i, token in enumerate(answer, 1) if token in ends), None) for answer in answers]
    answers = [answer[:length] for answer, length in zip(answers, lengths)]
    skip = getattr(generation_config, "skip_special_tokens", True)
    special = {id for id, token in engine.tokenizer.added_tokens_decoder.items() if token.special}
    marks = special.intersection(engine.template.get_thought_word_ids(engine.tokenizer))
    if skip and marks:  # without them thoughts would pass for the answer
        answers = [[token for token in answer if token not in special or token in marks] for answer in answers]
        skip = False
    texts = engine.tokenizer.batch_decode(answers, skip_special_tokens=skip, clean_up_tokenization_spaces=True)
    return [Sample(text, "stop" if length else "length") for text, length in zip(texts, lengths)]
