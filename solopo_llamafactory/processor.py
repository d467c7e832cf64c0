"""Messages -> token ids through the host's chat template, nothing cut.

The answers' tokens must be the same after both prompts and must not reach into them: only then can answers share a
prompt in the packed row, and only then do the rewards of both contexts speak of the same answer.
"""

from dataclasses import dataclass, field
from typing import Any

from datasets import Features, Value

from . import __version__
from .host.imports import DatasetProcessor


TOKENS = [Value("int32")]
TOKEN_COLUMNS = ("short_prompt_ids", "long_prompt_ids", "chosen_ids", "rejected_ids")
FEATURES = Features({"id": Value("string"), **dict.fromkeys(TOKEN_COLUMNS, TOKENS), "drop_reason": Value("string")})

BOUNDARY_CHARS = 64  # text on each side of the boundary between prompt and answer; no token is longer


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
        output = {**dict.fromkeys(FEATURES), "id": row["id"], "drop_reason": row["drop_reason"]}
        if row["drop_reason"] is not None:
            return output

        # Templates render message by message, so what holds after the short prompt for the rejected answer holds after
        # the long one: the long prompt, most of the work, is tokenised once.
        short_prompt, chosen = self._encode(row["short_prompt"], row["chosen"], row["short_system"])
        short_prompt_again, rejected = self._encode(row["short_prompt"], row["rejected"], row["short_system"])
        long_prompt, chosen_again = self._encode(row["long_prompt"], row["chosen"], row["long_system"])

        if short_prompt != short_prompt_again:
            output["drop_reason"] = "prompt tokens depend on the answer"
        elif chosen != chosen_again:
            output["drop_reason"] = "answer tokens depend on the prompt"
        elif chosen == rejected:
            output["drop_reason"] = "chosen equals rejected"
        elif any(
            self._merges(row[prompt][-1], row[answer])
            for prompt in ("short_prompt", "long_prompt")
            for answer in ("chosen", "rejected")
        ):
            output["drop_reason"] = "an answer's tokens merge with the prompt's"
        else:
            output |= {
                "short_prompt_ids": short_prompt,
                "long_prompt_ids": long_prompt,
                "chosen_ids": chosen,
                "rejected_ids": rejected,
            }
        return output

    def _encode(self, prompt: list[dict[str, str]], answer: str, system: str | None) -> tuple[list[int], list[int]]:
        messages = [*prompt, {"role": "assistant", "content": answer}]
        prompt_ids, answer_ids = self.template.encode_oneturn(self.tokenizer, messages, system, None)
        if self.template.efficient_eos:
            answer_ids = [*answer_ids, self.tokenizer.eos_token_id]
        return prompt_ids, answer_ids

    def _merges(self, last_message: dict[str, str], answer: str) -> bool:
        """Whether the tokenizer, given prompt and answer as one text, makes a token of both."""
        turn = self.template.format_user if last_message["role"] == "user" else self.template.format_observation
        slot = turn.apply(content=last_message["content"], idx="0")[-1]
        if not isinstance(slot, str):
            return False  # the prompt ends with a special token
        tail = slot[-BOUNDARY_CHARS:]
        alone = self.tokenizer.encode(tail, add_special_tokens=False)
        joint = self.tokenizer.encode(tail + answer[:BOUNDARY_CHARS], add_special_tokens=False)
        return joint[: len(alone)] != alone
