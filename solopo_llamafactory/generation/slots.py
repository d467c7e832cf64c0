"""Room for the keys and values of several prompts and of several answers to each.

P prompts, W answers to each under way, R = P * W rows, L keys of a slot, G query heads that share a key head.
"""

import torch
from torch import Tensor, nn


ALIGNMENT = 16  # of the number of keys: what torch's attention kernels want of a mask's rows


class Slots:
    """Keys and values of P prompts. A slot's keys lie in one line: the prompt's, then those of each of its W answers.

    A prompt's last token is not among the prompt's keys. It is the first token of every answer instead, so that an answer
    can begin at any time.

    Attributes:
        filling: the slots (C,) that a forward pass over prompts fills; None while answers grow.
        start_R: position of an answer's first token, the prompt's last.
        step_R: tokens that an answer has in its line already.
    """

    def __init__(self, prompts: int, width: int, prompt_tokens: int, answer_tokens: int, device: torch.device) -> None:
        """Room for prompts of up to `prompt_tokens` without their last token, and for answers of `answer_tokens`."""
        self.prompts, self.width = prompts, width
        self.prompt_tokens = aligned(prompt_tokens)
        self.size = self.prompt_tokens + aligned(width * answer_tokens)
        self.filling: Tensor | None = None
        self.start_R, self.step_R = torch.zeros(2, prompts * width, dtype=torch.long, device=device)
        rows = torch.arange(prompts * width, device=device)
        self._line_R = rows // width * self.size + self.prompt_tokens + rows % width * answer_tokens
        keys = torch.arange(self.size, device=device)
        self._of_prompt_L = keys < self.prompt_tokens
        behind = keys - self.prompt_tokens
        self._index_L = torch.where(self._of_prompt_L, keys, behind % answer_tokens)
        owner = torch.where(self._of_prompt_L, -1, behind // answer_tokens)
        self._own_WL = owner == torch.arange(width, device=device)[:, None]
        self._states: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple, Tensor] = {}

    def fill(self, module: nn.Module, key: Tensor, value: Tensor) -> None:
        """Keep a layer's keys and values of prompts, (C, key heads, prompt_tokens, head size)."""
        for kept, new in zip(self._kept(module, key, value), (key, value)):
            kept[:, : self.prompt_tokens].index_copy_(0, self.filling.to(kept.device), new.transpose(1, 2))

    def grow(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's keys and values of each answer's newest token, (R, key heads, 1, head size).

        Returns:
            All keys and values of the layer, (P, key heads, L, head size).
        """
        kept = self._kept(module, key, value)
        for states, new in zip(kept, (key, value)):
            states.flatten(0, 1).index_copy_(0, (self._line_R + self.step_R).to(states.device), new[:, :, 0])
        keys, values = kept
        return keys.transpose(1, 2), values.transpose(1, 2)

    def new_step(self) -> None:
        """Must be called before each forward pass over answers: what they see has changed."""
        self._masks.clear()

    def mask(self, window: int | None, groups: int, like: Tensor) -> Tensor:
        """Which keys each answer's newest token sees: 0 or -inf, (P, 1, W * G, L)."""
        found = self._masks.get((window, groups, like.device))
        if found is None:
            step_PW1, start_PW1 = (each.view(self.prompts, self.width, 1) for each in (self.step_R, self.start_R))
            seen = torch.where(
                self._of_prompt_L, self._index_L < start_PW1, self._own_WL & (self._index_L <= step_PW1)
            )
            if window is not None:
                position = torch.where(self._of_prompt_L, self._index_L, start_PW1 + self._index_L)
                seen = seen & (start_PW1 + step_PW1 - position < window)
            mask = torch.zeros(seen.shape, dtype=like.dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            found = mask.repeat_interleave(groups, dim=1)[:, None].to(like.device)
            self._masks[window, groups, like.device] = found
        return found

    def _kept(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if module not in self._states:  # zeros: what is not seen must still be a number
            self._states[module] = tuple(
                new.new_zeros(self.prompts, self.size, new.shape[1], new.shape[3]) for new in (key, value)
            )
        return self._states[module]


def aligned(tokens: int) -> int:
    """The next multiple of `ALIGNMENT`, at least one."""
    return max(1, -(-tokens // ALIGNMENT)) * ALIGNMENT
