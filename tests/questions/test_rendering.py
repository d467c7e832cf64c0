"""Counts are those of the prompt as training tokenizes it."""

import pytest

from solopo_llamafactory.questions.rendering import Renderer


@pytest.mark.parametrize(("tokenizer", "template"), [("qwen_tokenizer", "qwen"), ("llama_tokenizer", "llama3")])
def test_counts_are_the_stages(request, tokenizer, template):
    renderer = Renderer(request.getfixturevalue(tokenizer), template)
    for prompt in ("Which?", "A\n\nB  <|im_end|> é 1,960\t" * 50, ""):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": ""}]
        prompt_ids, _ = renderer.template.encode_oneturn(renderer.tokenizer, messages)
        assert renderer.count(prompt) == len(prompt_ids) > 0
