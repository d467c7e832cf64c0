"""The last word on correctness: a packed row equals plain, separate, unpacked forward passes."""

import random
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM

from solopo_llamafactory.data.packing import RowLayout, Span, pack
from solopo_llamafactory.data.padding import pad
from solopo_llamafactory.data.sequences import Example, Sequences, sequences_of
from solopo_llamafactory.model.attention import sdpa_spans
from solopo_llamafactory.model.logprobs import answer_logps, token_logps
from solopo_llamafactory.model.probe import probe, use_packed_attention


def make_examples(count: int) -> list[Example]:
    rng = random.Random(count)

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(10, 250) for _ in range(rng.randint(low, high))]

    return [Example(tokens(5, 20), tokens(30, 70), tokens(1, 9), tokens(1, 9)) for _ in range(count)]


def switch(model) -> str | None:
    """Switch a model to packed rows, or say what keeps it from them."""
    obstacle = probe(model, max_length=100).obstacle
    if obstacle is None:
        use_packed_attention([model])
    return obstacle


def plain_logps(model, examples: list[Example], sequences: Sequences) -> torch.Tensor:
    """One unpacked forward pass for each sequence: nothing shared with the code under test but the model."""
    logps = []
    for example in examples:
        for each in sequences:
            prompt, answer = getattr(example, each.prompt), getattr(example, each.answer)
            logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            logps.append(sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer)))
    return torch.stack(logps).view(len(examples), -1)


def packed_logps(model, examples: list[Example], sequences: Sequences, pad_to_multiple_of: int = 1) -> torch.Tensor:
    row = pack(examples, sequences, pad_to_multiple_of)
    logits = model(
        input_ids=row.input_ids_1T,
        position_ids=row.position_ids_1T,
        logits_to_keep=row.logit_positions_A,
        use_cache=False,
        packed_row=row.layout,
    ).logits[0]
    return answer_logps(token_logps(logits, row.targets_A), row.answer_lengths_NS)


def padded_logps(model, examples: list[Example], sequences: Sequences) -> torch.Tensor:
    batch = pad(examples, sequences, pad_token_id=0)
    logps = []
    for rows in batch.groups:
        logits = model(
            input_ids=rows.input_ids_BW,
            attention_mask=rows.attention_mask_BW,
            position_ids=rows.position_ids_BW,
            use_cache=False,
        ).logits
        logps.append(token_logps(logits.flatten(0, 1)[rows.logit_positions_A], rows.targets_A))
    return answer_logps(torch.cat(logps)[batch.order_A], batch.answer_lengths_NS)


def gradients(model, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (logps * torch.arange(1, logps.numel() + 1).view(logps.shape)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same(model, logps_of, examples, sequences, expected) -> None:
    """Log-probs to 1e-5 and gradients to 1e-4 of the largest entry."""
    expected_logps, expected_gradients = expected
    logps = logps_of(model, examples, sequences)
    torch.testing.assert_close(logps, expected_logps, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(model, logps).items():
        scale = expected_gradients[name].abs().max()
        torch.testing.assert_close(gradient / scale, expected_gradients[name] / scale, rtol=0, atol=1e-4, msg=name)


@pytest.fixture(params=["qwen2", "llama"])
def model(request, tiny_qwen2, tiny_llama):
    path = {"qwen2": tiny_qwen2, "llama": tiny_llama}[request.param]
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa")


@pytest.fixture
def flash_attn(monkeypatch):
    """flash-attn needs a GPU; this stands in for its varlen function as its documentation describes it."""

    def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, softmax_scale, causal):
        assert causal and cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert max_seqlen_q == cu_seqlens_q.diff().max() and max_seqlen_k == cu_seqlens_k.diff().max()
        outputs = []
        for i in range(len(cu_seqlens_q) - 1):
            qi = q[cu_seqlens_q[i] : cu_seqlens_q[i + 1]].transpose(0, 1)
            ki, vi = (x[cu_seqlens_k[i] : cu_seqlens_k[i + 1]].transpose(0, 1) for x in (k, v))
            ki, vi = (x.repeat_interleave(qi.shape[0] // x.shape[0], 0) for x in (ki, vi))
            seen = torch.ones(qi.shape[1], ki.shape[1], dtype=torch.bool).tril(ki.shape[1] - qi.shape[1])
            scores = (qi @ ki.transpose(1, 2) * softmax_scale).masked_fill(~seen, -torch.inf)
            outputs.append((scores.softmax(-1) @ vi).transpose(0, 1))
        return torch.cat(outputs)

    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = varlen
    monkeypatch.setitem(sys.modules, "flash_attn", module)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "view, align", [("both", "chosen"), ("both", "both"), ("long", "chosen"), ("short", "chosen")]
)
def test_packed_row_equals_plain_forwards(model, view, align, count):
    examples, sequences = make_examples(count), sequences_of(view, align)
    logps = plain_logps(model, examples, sequences)
    expected = logps, gradients(model, logps)
    assert switch(model) is None
    assert_same(model, packed_logps, examples, sequences, expected)


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("backend", ["sdpa", "eager", "flash_attention_2"])
def test_every_back_end_equals_plain_forwards(model, backend, multiple, flash_attn):
    examples, sequences = make_examples(2), sequences_of("both", "both")
    logps = plain_logps(model, examples, sequences)
    expected = logps, gradients(model, logps)
    model.config._attn_implementation = backend
    assert switch(model) is None
    assert model.config._attn_implementation == f"packed_{backend}"
    assert_same(model, partial(packed_logps, pad_to_multiple_of=multiple), examples, sequences, expected)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_recomputes_the_packed_row(model, use_reentrant):
    examples, sequences = make_examples(2), sequences_of("both")
    logps = plain_logps(model, examples, sequences)
    expected = logps, gradients(model, logps)
    switch(model)
    model.train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert_same(model, packed_logps, examples, sequences, expected)


def test_padded_batch_equals_plain_forwards(model):
    examples, sequences = make_examples(3), sequences_of("both", "both")
    logps = plain_logps(model, examples, sequences)
    assert_same(model, padded_logps, examples, sequences, (logps, gradients(model, logps)))


def test_a_switched_model_still_takes_ordinary_batches(model):
    """Callbacks may generate with the model while it trains: a padded batch must see its mask."""
    examples, sequences = make_examples(2), sequences_of("both")
    expected_logps = plain_logps(model, examples, sequences)
    expected = expected_logps, gradients(model, expected_logps)
    switch(model)
    assert_same(model, padded_logps, examples, sequences, expected)
    assert_same(model, plain_logps, examples, sequences, expected)


def test_equal_contexts_have_exactly_equal_logps(model):
    examples = [example._replace(long_prompt_ids=example.short_prompt_ids) for example in make_examples(3)]
    switch(model)
    logps = packed_logps(model, examples, sequences_of("both"))
    assert torch.equal(logps[:, 0], logps[:, 2])


def test_strides_do_not_depend_on_what_shares_the_row(monkeypatch):
    """cuDNN keeps a plan for each set of strides: with the row's length among them every row would be planned anew."""
    own, seen = torch.nn.functional.scaled_dot_product_attention, []

    def watched(*states, **options):
        strides = [each.stride() for each in states]
        output = own(*states, **options)
        output.register_hook(lambda gradient: seen.append((states[0].shape[2], *strides, gradient.stride())))
        return output

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    found = []
    for lengths in ((30, 20), (30, 70)):
        spans = (Span(0, lengths[0]), Span(lengths[0], sum(lengths)))
        states = [torch.randn(1, sum(lengths), heads, 8, requires_grad=True).transpose(1, 2) for heads in (4, 2, 2)]
        seen.clear()
        sdpa_spans(*states, RowLayout(spans), 1.0, 0.0).flatten(2).square().sum().backward()
        found.append({each for each in seen if each[0] == lengths[0]})
    assert len(found[0]) == 1 and found[0] == found[1]
