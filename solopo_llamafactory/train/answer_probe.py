"""`solopo_probe`: held-out questions that the model answers while it trains, on the short and on the long context.

Losses and rewards may improve while answers fall apart: an answer that no longer ends costs the loss little. So the model
is asked, greedily, at the start and at each evaluation, and what it says is judged as `solopo eval` judges it.
"""

import json
import math
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from ..common.distributed import gather, rank_and_world_size, share_of
from ..generation.choice import Decoding
from ..generation.errors import UnfitError
from ..generation.fit import fit_of
from ..generation.loop import Request, generate
from ..host.log import logger
from ..model.attention import PREFIX
from ..model.probe import below_adapter
from ..questions.sub_em import sub_em
from ..questions.wording import DEFAULT_WORDING, read_wording
from ..sampling.marks import Marks
from . import metrics


ROOM = 2  # an answer may take so many times the tokens of the longest answer of the probed pairs
CONTEXTS = ("short", "long")


@dataclass(frozen=True)
class Asked:
    """A held-out pair: its prompts by context, and what its answer is judged by, if that is known."""

    prompts: dict[str, list[int]]
    answers: list[str] | None
    wording: str | dict


@dataclass(frozen=True)
class Answered:
    """One answer: whether it is right (None where that is not known), and whether it was cut off."""

    is_right: bool | None
    cut_off: bool


class AnswerProbe:
    """Asks a model and remembers its first answers, to notice when it gets worse.

    Args:
        pairs: what is asked.
        tokenizer: of the model.
        ends: tokens that end an answer.
        max_new_tokens: most tokens of an answer.
        gradient: `solopo_gradient` of the run, which the warning may advise to change.
    """

    def __init__(
        self,
        pairs: Sequence[Asked],
        tokenizer: Any,
        ends: set[int],
        max_new_tokens: int,
        gradient: str = "one_sided",
    ) -> None:
        self.pairs, self.tokenizer, self.gradient = pairs, tokenizer, gradient
        self.decoding = Decoding(max_new_tokens, frozenset(ends))
        self.first: dict[str, list[Answered]] | None = None
        self.warned = False

    @classmethod
    def of(
        cls, number: int, held_out: Sequence[Dataset], tokenizer: Any, template: Any, gradient: str = "one_sided"
    ) -> "AnswerProbe":
        """The probe of `number` pairs, spread evenly over the held-out ones."""
        rows = [(dataset, row) for dataset in held_out for row in range(len(dataset))]
        number = min(number, len(rows))
        picked = [rows[i * len(rows) // number] for i in range(number)]
        examples = [dataset[row] for dataset, row in picked]
        longest = max(len(each[name]) for each in examples for name in ("chosen_ids", "rejected_ids"))
        pairs = [_asked(each) for each in examples]
        if not any(pair.answers for pair in pairs):
            logger.info_rank0(
                f"`solopo_probe: {number}`: the held-out pairs have no `answers` in their `meta`, so only answers that are "
                "cut off are counted."
            )
        return cls(pairs, tokenizer, set(template.get_stop_token_ids(tokenizer)), ROOM * longest, gradient)

    def __call__(self, model: nn.Module, is_sharded: bool) -> dict[str, float]:
        """Ask the model, in all processes, and return metrics by name.

        Args:
            model: unwrapped, in evaluation mode.
            is_sharded: whether a forward pass needs all processes (ZeRO-3).
        """
        started = time.perf_counter()
        prompts = sorted(
            ((len(pair.prompts[context]), i, context) for i, pair in enumerate(self.pairs) for context in CONTEXTS)
        )
        share = [prompts[i] for i in share_of(len(prompts))]
        with ordinary_attention(model):
            tokens = self._generate(
                below_adapter(model), [self.pairs[i].prompts[name] for _, i, name in share], is_sharded
            )
        own = {(i, name): self._judge(self.pairs[i], ids) for (_, i, name), ids in zip(share, tokens)}
        found: dict[tuple[int, str], Answered] = {}
        for part in gather(own):
            found |= part
        answered = {name: [found[i, name] for i in range(len(self.pairs))] for name in CONTEXTS}
        self._compare(answered)
        return self._metrics(answered) | {metrics.PROBE_SECONDS: time.perf_counter() - started}

    def _generate(self, model: nn.Module, prompts: list[list[int]], is_sharded: bool) -> list[list[int]]:
        """The answers' tokens, an end token included."""
        if not is_sharded:
            try:
                fit = fit_of(model, max(map(len, prompts)) + self.decoding.max_new_tokens)
            except UnfitError:
                pass
            else:
                requests = [Request(prompt, [0]) for prompt in prompts]
                answers = dict(generate(model, requests, self.decoding, fit, set(range(len(prompts)))))
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()  # back to the training
                return [answers[i][0] for i in range(len(prompts))]
        return [self._generate_one(model, prompt, is_sharded) for prompt in prompts]

    @torch.no_grad()
    def _generate_one(self, model: nn.Module, prompt: list[int], is_sharded: bool) -> list[int]:
        device = model.get_input_embeddings().weight.device
        inputs = torch.tensor([prompt], device=device)
        ends = sorted(self.decoding.ends)
        output = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            max_new_tokens=self.decoding.max_new_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
            use_cache=True,
            synced_gpus=is_sharded and rank_and_world_size()[1] > 1,
        )[0, len(prompt) :].tolist()
        length = next((i for i, token in enumerate(output, 1) if token in self.decoding.ends), len(output))
        return output[:length]

    def _judge(self, pair: Asked, tokens: list[int]) -> Answered:
        cut_off = not tokens or tokens[-1] not in self.decoding.ends
        if not pair.answers:
            return Answered(None, cut_off)
        reading = Marks().read(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Answered(sub_em(reading.answer, pair.answers, read_wording(pair.wording).markers), cut_off)

    def _metrics(self, answered: dict[str, list[Answered]]) -> dict[str, float]:
        found = {}
        for name, answers in answered.items():
            judged = [each.is_right for each in answers if each.is_right is not None]
            if judged:
                found[metrics.probe_of(name)] = sum(judged) / len(judged)
        every = [each.cut_off for answers in answered.values() for each in answers]
        return found | {metrics.PROBE_CUT_OFF: sum(every) / len(every)}

    def _compare(self, answered: dict[str, list[Answered]]) -> None:
        """Warn once when clearly more answers have got worse than better since the first ones."""
        if self.first is None:
            self.first = answered
            return
        if self.warned:
            return
        pairs = [(before, now) for name in CONTEXTS for before, now in zip(self.first[name], answered[name])]
        lost = sum(bool(before.is_right) and not now.is_right for before, now in pairs)
        won = sum(bool(now.is_right) and not before.is_right for before, now in pairs)
        cut = sum(now.cut_off and not before.cut_off for before, now in pairs)
        ended = sum(before.cut_off and not now.cut_off for before, now in pairs)
        if _is_clear(lost, won) or _is_clear(cut, ended):
            self.warned = True
            logger.warning_rank0(
                f"The model answers worse than at the start: of {len(pairs)} probed answers {lost} turned wrong and {won} "
                f"right, {cut} are now cut off and {ended} no longer. Lower `learning_rate` or `solopo_alpha`"
                + (", or set `solopo_gradient: one_sided`." if self.gradient != "one_sided" else ".")
            )


def _is_clear(worse: int, better: int) -> bool:
    """Whether the difference is more than two standard deviations of a coin's."""
    return worse - better > 2 * math.sqrt(worse + better)


def _asked(example: dict[str, Any]) -> Asked:
    gold = json.loads(example.get("gold") or "{}")
    prompts = {name: example[f"{name}_prompt_ids"] for name in CONTEXTS}
    return Asked(prompts, gold.get("answers"), gold.get("wording") or DEFAULT_WORDING)


@contextmanager
def ordinary_attention(model: nn.Module):
    """Take packed rows' attention away from a model, and give it back at the end."""
    config = below_adapter(model).config.get_text_config()
    packed = config._attn_implementation
    config._attn_implementation = packed.removeprefix(PREFIX)
    try:
        yield
    finally:
        config._attn_implementation = packed
