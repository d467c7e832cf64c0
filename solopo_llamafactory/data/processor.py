"""Messages -> token ids through the host's chat template, nothing cut.

The answers' tokens must be the same after both prompts and must not reach into them: only then can answers share a
prompt in the packed row, and only then do the rewards of both contexts speak of the same answer.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datasets import Features, Value

from .. import __version__
from ..host.imports import MEDIA_PLACEHOLDERS, DatasetProcessor
from .converter import DropRow
from .rendered import is_rendered, renders_nothing
from .sequences import TOKEN_COLUMNS


TOKENS = [Value("int32")]
KEPT_COLUMNS = ("id", "data_set", "gold", "drop_reason", "drop_value")  # as the converter wrote them
FEATURES = Features(
    {
        "id": Value("string"),
        "data_set": Value("string"),
        "gold": Value("string"),
        **dict.fromkeys(TOKEN_COLUMNS, TOKENS),
        "chat_tokens": [Value("string")],  # control tokens of the tokenizer that stand in the texts themselves
        "is_rendered": Value("bool"),  # whether a prompt seems to have gone through a chat template before
        "drop_reason": Value("string"),
        "drop_value": Value("string"),
    }
)

BOUNDARY_TOKENS = 16  # on each side of the boundary between prompt and answer


@dataclass
class SolopoDatasetProcessor(DatasetProcessor):
    """Tokenises the rows of `SolopoDatasetConverter`; rows that come with a `drop_reason` keep it."""

    version: str = field(default=__version__)  # part of the datasets cache's fingerprint

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = [dict(zip(examples, values)) for values in zip(*examples.values())]
        outputs = [self._process(row) for row in rows]
        return {column: [output[column] for output in outputs] for column in FEATURES}

    def print_data_example(self, example: dict[str, list[int]]) -> None:
        for column in TOKEN_COLUMNS:
            print(f"{column}:\n{example[column]}")
            print(f"{column.removesuffix('_ids')}:\n{self.tokenizer.decode(example[column])}")

    def _process(self, row: dict[str, Any]) -> dict[str, Any]:
        output = {**dict.fromkeys(FEATURES), **{key: row[key] for key in KEPT_COLUMNS}}
        if row["drop_reason"] is None:
            try:
                output |= self._tokenise(row)
            except DropRow as reason:
                output |= reason.columns(row["id"])
        return output

    def _tokenise(self, row: dict[str, Any]) -> dict[str, list]:
        for prompt in ("short_prompt", "long_prompt"):
            self._check_prompt(row[prompt], prompt)
        self._check_media(row)

        # Templates render message by message, so what holds after the short prompt for the rejected answer holds after
        # the long one: the long prompt, most of the work, is tokenised once.
        short_prompt, chosen = self._encode(row["short_prompt"], row["chosen"], row["short_system"])
        short_prompt_again, rejected = self._encode(row["short_prompt"], row["rejected"], row["short_system"])
        long_prompt, chosen_again = self._encode(row["long_prompt"], row["chosen"], row["long_system"])

        if short_prompt != short_prompt_again:
            raise DropRow("prompt tokens depend on the answer")
        if chosen != chosen_again:
            raise DropRow("answer tokens depend on the prompt")
        if chosen == rejected:
            raise DropRow("chosen equals rejected")
        tokens = dict(zip(TOKEN_COLUMNS, (short_prompt, long_prompt, chosen, rejected)))
        for column, ids in tokens.items():
            if not ids:
                raise DropRow(f"empty {column.removesuffix('_ids')}")
        for answer in ("chosen", "rejected"):
            self._check_answer(row[answer], tokens[f"{answer}_ids"], answer)
        if any(
            self._merges(prompt, answer) for prompt in (short_prompt, long_prompt) for answer in (chosen, rejected)
        ):
            raise DropRow("an answer's tokens merge with the prompt's")
        return {**tokens, "chat_tokens": self._chat_tokens(row), "is_rendered": self._is_rendered(row)}

    def _encode(self, prompt: list[dict[str, str]], answer: str, system: str | None) -> tuple[list[int], list[int]]:
        messages = [*prompt, {"role": "assistant", "content": answer}]
        try:
            prompt_ids, answer_ids = self.template.encode_oneturn(self.tokenizer, messages, system, None)
        except Exception:  # each tool format has its own for a call that is no JSON or lacks its parts
            if any(message["role"] == "function" for message in prompt):
                raise DropRow("the template cannot render a function call") from None
            raise
        if None in prompt_ids or None in answer_ids:
            raise ValueError(
                f"`template: {self.data_args.template}` writes tokens that the model's tokenizer does not have: choose the "
                "template that belongs to the model."
            )
        if self.template.efficient_eos:
            answer_ids = [*answer_ids, self.tokenizer.eos_token_id]
        return prompt_ids, answer_ids

    def _check_prompt(self, prompt: list[dict[str, str]], name: str) -> None:
        """The host's formatters fill in `{{idx}}`, also where it is the user's own text."""
        for turn, message in enumerate(prompt):
            if message["role"] == "user":
                slots = self.template.format_user.apply(content=message["content"], idx=str(turn // 2))
                if not any(isinstance(slot, str) and message["content"] in slot for slot in slots):
                    raise DropRow(f"the template changes the text of {name}")

    def _check_media(self, row: dict[str, Any]) -> None:
        """A multimodal template's plugin looks for a medium at each placeholder; without one the text is its own."""
        if not self._takes_media:
            return
        for name in ("short_prompt", "long_prompt", "chosen", "rejected"):
            texts = [row[name]] if isinstance(row[name], str) else [message["content"] for message in row[name]]
            for placeholder in MEDIA_PLACEHOLDERS:
                if any(placeholder in text for text in texts):
                    raise DropRow(f"{name} holds the placeholder {placeholder}")

    @cached_property
    def _takes_media(self) -> bool:
        plugin = self.template.mm_plugin
        return any(getattr(plugin, f"{media}_token") is not None for media in ("image", "video", "audio"))

    def _check_answer(self, answer: str, answer_ids: list[int], name: str) -> None:
        if self.template.enable_thinking is False and not self.template.remove_thought(answer).strip():
            raise DropRow(f"{name} is nothing but thoughts", answer)
        unknown = self.tokenizer.unk_token_id
        if unknown in answer_ids and unknown != self.tokenizer.eos_token_id and self.tokenizer.unk_token not in answer:
            raise DropRow(f"{name} has characters that the tokenizer does not know", answer)

    def _merges(self, prompt_ids: list[int], answer_ids: list[int]) -> bool:
        """Whether the tokenizer, given prompt and answer as one text, makes a token of both."""
        tail, head = prompt_ids[-BOUNDARY_TOKENS:], answer_ids[:BOUNDARY_TOKENS]
        # Decoded together: some tokenizers put a space between words, which the two texts one after the other lack.
        alone, joint = (self._tokenise_again(ids) for ids in (tail, [*tail, *head]))
        return joint[: len(alone)] != alone

    def _tokenise_again(self, ids: list[int]) -> list[int]:
        return self.tokenizer.encode(
            self.tokenizer.decode(ids, clean_up_tokenization_spaces=False), add_special_tokens=False
        )

    def _is_rendered(self, row: dict[str, Any]) -> bool:
        messages = [*row["short_prompt"], *row["long_prompt"]]
        texts = [message["content"] for message in messages if message["role"] == "user"]
        return not renders_nothing(self.template) and any(map(is_rendered, texts))

    def _chat_tokens(self, row: dict[str, Any]) -> list[str]:
        """Control tokens in the row's texts: the tokenizer makes marks of turns of them, as in the host's stages."""
        messages = [*row["short_prompt"], *row["long_prompt"]]
        texts = [message["content"] for message in messages]
        texts += [row[key] or "" for key in ("short_system", "long_system", "chosen", "rejected")]
        return sorted({token for text in texts for token in self._control_tokens.findall(text)})

    @cached_property
    def _control_tokens(self) -> re.Pattern:
        template_words = "".join([*self.template.thought_words, *self.template.tool_call_words])
        added = self.tokenizer.added_tokens_decoder.values()
        tokens = {token.content for token in added if token.special and token.content not in template_words}
        longest_first = sorted(tokens, key=lambda token: (-len(token), token))
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
