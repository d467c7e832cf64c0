"""How large a miniature is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Numbers of one run of the miniature.

    Attributes:
        base_steps: of the base's fine-tuning, 32 conversations each; 0 takes the base that is part of this repository.
        train_questions: questions that are sampled for pairs, `pairs` of which are used at most.
        long_tokens: most tokens of a long prompt in training.
        lengths: prompt tokens in evaluation; the first is the short prompt's.
        dev_questions, test_questions: in each cell of the evaluation.
    """

    base_steps: int
    train_questions: int
    pairs: int
    steps: int
    batch_size: int
    long_tokens: int
    lengths: tuple[int, ...]
    dev_questions: int
    test_questions: int


SHORT_TOKENS = 76  # 16 facts
SIZES = {
    "gpu": Size(1500, 4000, 1600, 200, 32, 1024, (SHORT_TOKENS, 512, 1024, 2048, 4096), 64, 256),
    "cpu": Size(0, 1100, 400, 60, 16, 512, (SHORT_TOKENS, 256, 512, 1024), 32, 96),
    "tiny": Size(0, 64, 8, 2, 4, 128, (SHORT_TOKENS, 128), 4, 4),  # whether all of it runs
}
