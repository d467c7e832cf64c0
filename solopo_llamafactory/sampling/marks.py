"""What a sampled text holds beside its answer: thoughts before it, an end mark behind it, control tokens anywhere."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .arguments import RequestArguments


EMPTY = "empty"
UNCLOSED = "thoughts without an end"
ONLY_THOUGHTS = "thoughts without an answer"
NO_ANSWER = (EMPTY, UNCLOSED, ONLY_THOUGHTS)
CONTROL_TOKEN = "control token "  # and its name
CUT_OFF = "cut off"
ENDED_BY = "ended by "  # and the server's word for it
ENDS = {"stop": None, "length": CUT_OFF}  # problems of `Sample.finish`
WELL_KNOWN_THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
# What may be a control token is looked up, for a tokenizer may have thousands of them.
BRACKETED = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
# Control tokens of other families than the tokenizer's: a server of another model, or of another template, sends them.
CONTROL_SHAPE = re.compile(
    r"<[|\uff5c].+>|<.+[|\uff5c]>|</s>|<eos>|<bos>|<pad>|<(?:start|end)_of_turn>|\[/?INST\]", re.DOTALL
)
ANSWER_ADVICE = (
    "raise max_new_tokens so that thoughts end; start a server without its reasoning parser (--reasoning-parser), which sends "
    "thoughts beside the answer; or switch thinking off (engine_args: {chat_template_kwargs: {enable_thinking: false}} for "
    "vLLM and SGLang, {enable_thinking: false} in this process)"
)
CONTROL_ADVICE = (
    "let the server leave out special tokens (skip_special_tokens: true), and serve the model that `template` and `tokenizer` "
    "name"
)


@dataclass(frozen=True)
class Reading:
    """A sampled text, taken apart."""

    text: str  # without end marks: what a pair holds
    answer: str  # what follows the thoughts: what is judged; "" where there is no answer
    end_mark: bool  # whether an end mark was removed
    problem: str | None  # why the text enters no pair


@dataclass(frozen=True)
class Marks:
    """The marks of one template and tokenizer. The defaults know thoughts and control tokens by their commonest forms.

    Args:
        thoughts: opening and closing marks.
        ends: what the template ends an answer with.
        control_tokens: the tokenizer's.
        calls: what stands around calls of tools, which is allowed.
        remove_thoughts: whether pairs hold the answer alone.
    """

    thoughts: tuple[tuple[str, str], ...] = WELL_KNOWN_THOUGHTS
    ends: tuple[str, ...] = ()
    control_tokens: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    remove_thoughts: bool = False

    def read(self, text: str, finish: str = "stop") -> Reading:
        """Takes a sampled text that ended so (`Sample.finish`) apart.

        Thoughts reach to their last closing mark, whether they were opened in the text or in the prompt. A thought that is
        opened and not closed leaves no answer.
        """
        whole = self._without_ends(text)
        closed = [whole.rfind(closing) + len(closing) for _, closing in self.thoughts if closing in whole]
        answer = whole[max(closed, default=0) :]
        problem = None
        if any(opening in answer for opening, _ in self.thoughts):
            answer, problem = "", UNCLOSED
        elif not answer.strip():
            problem = ONLY_THOUGHTS if whole else EMPTY
        answer = answer.strip()
        kept = answer if self.remove_thoughts else whole
        problem = problem or self._control_token(kept) or ENDS.get(finish, ENDED_BY + finish)
        return Reading(kept, answer, whole != text.strip(), problem)

    def no_answer(self, text: str) -> str | None:
        """Why a sampled text is no answer at all."""
        problem = self.read(text).problem
        return problem if problem in NO_ANSWER else None

    def _without_ends(self, text: str) -> str:
        text = text.strip()
        while end := next((end for end in self.ends if text.endswith(end)), None):
            text = text.removesuffix(end).rstrip()
        return text

    def _control_token(self, text: str) -> str | None:
        """The problem of the first control token that is no mark of thoughts or of calls."""
        for mark in self._allowed:
            text = text.replace(mark, " ")
        for token in (
            *map(re.Match.group, BRACKETED.finditer(text)),
            *(each for each in self._others if each in text),
        ):
            if token in self._looked_up or CONTROL_SHAPE.fullmatch(token):
                return CONTROL_TOKEN + token
        return None

    @cached_property
    def _allowed(self) -> list[str]:
        return sorted({mark for pair in (*self.thoughts, self.calls) for mark in pair}, key=len, reverse=True)

    @cached_property
    def _looked_up(self) -> frozenset[str]:
        return frozenset(self.control_tokens)

    @cached_property
    def _others(self) -> tuple[str, ...]:
        return tuple(token for token in self.control_tokens if not BRACKETED.fullmatch(token))


def make_marks(
    args: RequestArguments, tokenizer: Any, template: str | None = None, remove_thoughts: bool = False
) -> Marks:
    """The marks of a template of the host's and of a tokenizer; those of thoughts are all that the host or the arguments name.

    Args:
        tokenizer: of transformers, as the host's template leaves it.
        template: its name; None for that of `args`.
    """
    from ..host.chat import marks_of_template

    thoughts, ends, calls = marks_of_template(template or args.template)
    own = args.thought_words or []
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return Marks(
        thoughts=(*WELL_KNOWN_THOUGHTS, *thoughts, *zip(own[::2], own[1::2])),
        ends=tuple(filter(None, [*ends, tokenizer.eos_token])),
        control_tokens=tuple(special),
        calls=calls,
        remove_thoughts=remove_thoughts,
    )


def advice(problems: Collection[str]) -> str:
    """What to change where samples have these problems of `Reading.problem`."""
    wanted = {
        ANSWER_ADVICE: any(problem in NO_ANSWER for problem in problems),
        CONTROL_ADVICE: any(problem.startswith(CONTROL_TOKEN) for problem in problems),
        "raise max_new_tokens": CUT_OFF in problems,
        "look for the server's filters and tools": any(problem.startswith(ENDED_BY) for problem in problems),
    }
    return "; ".join(text for text, is_wanted in wanted.items() if is_wanted)


def remarks(problems: Mapping[str, int], end_marks: int, total: int, consequence: str) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is as it should be, a sentence) on what sampled texts hold beside answers.

    Args:
        problems: how many texts have each problem of `Reading.problem`, those cut off aside.
        end_marks: how many had an end mark, which was removed.
        total: all texts.
        consequence: what becomes of texts that are answers all the same.
    """
    kinds = {
        "hold no answer ({})": {problem for problem in problems if problem in NO_ANSWER},
        f"hold a control token ({{}}) {consequence}": {each for each in problems if each.startswith(CONTROL_TOKEN)},
        f"were ended by the server ({{}}) {consequence}": {each for each in problems if each.startswith(ENDED_BY)},
    }
    for found, kind in kinds.items():
        if kind:
            names = {each: each.removeprefix(CONTROL_TOKEN).removeprefix(ENDED_BY) for each in kind}
            counts = Counter({names[each]: problems[each] for each in sorted(kind)})
            listed = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
            yield False, f"{counts.total():,} of {total:,} answers {found.format(listed)}: {advice(kind)}."
    if end_marks:
        yield True, f"{end_marks:,} of {total:,} answers came with the template's end mark, which is removed."
