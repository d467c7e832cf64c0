"""Token counts of rendered prompts: the host's template and the target model's tokenizer, as training sees them."""

from ..common.errors import SolopoError


class Renderer:
    """Counts tokens. Loading it imports LLaMA-Factory, which takes a while."""

    def __init__(self, tokenizer: str, template: str) -> None:
        from transformers import AutoTokenizer

        from ..host.imports import DataArguments, get_template_and_fix_tokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(tokenizer, use_fast=True)
        except Exception as error:  # the hub client and tokenizers raise many kinds
            reason = " ".join(str(error).split())[:200]
            raise SolopoError(
                f"tokenizer '{tokenizer}' cannot be loaded ({reason}): give a folder that holds a tokenizer (`solopo "
                "tiny-model` makes one) or a hub id that this machine can reach."
            ) from None
        try:
            self.template = get_template_and_fix_tokenizer(self.tokenizer, DataArguments(template=template))
        except ValueError as error:
            raise SolopoError(
                f"template '{template}' is refused by LLaMA-Factory ({error}): write one of its template names, such "
                "as qwen or llama3."
            ) from None
        self.tokenizer.model_max_length = int(1e9)  # contexts longer than the model's are no concern here
        self._counter = _FastIds(self.tokenizer) if self.tokenizer.is_fast else self.tokenizer

    def count(self, prompt: str) -> int:
        """Tokens of the whole prompt, rendered as training renders it."""
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": ""}]
        prompt_ids, _ = self.template.encode_oneturn(self._counter, messages)
        return len(prompt_ids)

    def piece_lengths(self, texts: list[str], batch_size: int = 1024) -> list[int]:
        """Tokens of each text by itself."""
        lengths: list[int] = []
        for start in range(0, len(texts), batch_size):
            batch = self.tokenizer(
                texts[start : start + batch_size], add_special_tokens=False, return_attention_mask=False
            )
            lengths += [len(ids) for ids in batch["input_ids"]]
        return lengths


class _FastIds:
    """A tokenizer as templates use it, without the offsets of tokens in the text: a third faster."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._tokenizer.backend_tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[
            0
        ].ids

    def __getattr__(self, name: str):
        return getattr(self._tokenizer, name)
