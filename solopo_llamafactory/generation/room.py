"""How many prompts and answers are under way at a time: as many as fit the memory that is free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from .fit import Fit
from .slots import aligned


MOST_ROWS = {"cuda": 1024, "cpu": 128}  # answers under way; more bring no more tokens a second
MOST_WIDTH = 16  # answers to one prompt under way
PREFILL_TOKENS = {"cuda": 16384, "cpu": 2048}  # of prompts that are computed together
SHARE = 0.7  # of the free memory, the rest is for what layers hold for a moment
LOGIT_BYTES = 32  # for each row and entry of the vocabulary while a token is chosen


@dataclass(frozen=True)
class Shape:
    """Sizes that stay the same for a group of prompts, so that an answer does not depend on what else is under way.

    Args:
        prompts: slots for prompts.
        width: answers to a prompt at a time.
        prompt_tokens: the longest prompt, without its last token.
        answer_tokens: most tokens of an answer.
        together: prompts that are computed in one forward pass.
    """

    prompts: int
    width: int
    prompt_tokens: int
    answer_tokens: int
    together: int

    def halved(self) -> "Shape | None":
        """About half as many answers at a time; None where there is one only."""
        if self.prompts > 1:
            prompts = (self.prompts + 1) // 2
            return replace(self, prompts=prompts, together=min(self.together, prompts))
        return replace(self, width=(self.width + 1) // 2) if self.width > 1 else None

    def memory(self, fit: Fit) -> int:
        """Bytes for keys and values and for choosing tokens."""
        keys = aligned(self.prompt_tokens) + aligned(self.width * self.answer_tokens)
        return self.prompts * (keys * fit.token_bytes + self.width * fit.vocabulary * LOGIT_BYTES)


def shape_of(
    lengths: Sequence[int],
    answers: int,
    answer_tokens: int,
    fit: Fit,
    device: torch.device,
    most_prompts: int | None = None,
) -> Shape:
    """The shape for a group of prompts of these lengths.

    Args:
        lengths: tokens of each prompt.
        answers: to each prompt.
        answer_tokens: most tokens of an answer.
        fit: see `fit_of`.
        device: where the model is.
        most_prompts: more are not under way at a time.
    """
    width = math.ceil(answers / math.ceil(answers / MOST_WIDTH))
    most = min(len(lengths), most_prompts or len(lengths), max(1, MOST_ROWS[device.type] // width))
    prompts = math.ceil(len(lengths) / math.ceil(len(lengths) / most))  # turns of about the same size
    prompt_tokens = max(1, max(lengths) - 1)
    together = max(1, min(prompts, PREFILL_TOKENS[device.type] // prompt_tokens))
    shape = Shape(prompts, width, prompt_tokens, answer_tokens, together)
    budget = SHARE * free_memory(device)
    while shape.memory(fit) > budget and (smaller := shape.halved()) is not None:
        shape = smaller
    return shape


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
