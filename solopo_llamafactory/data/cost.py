"""What a training step costs, predicted from tokens and squared tokens with the model's shape.

Multiply-adds of one forward pass; backward and recomputation multiply every method's by the same factor, so ratios
stand for whole steps. Which pairs attention computes is exact for the packed row.
"""

from dataclasses import dataclass, replace

import numpy as np

from .sequences import Lengths, Sequences


HOST, SHARED = "the host's dpo stage on the long pair", "plain long PO with a shared prompt"


@dataclass(frozen=True)
class ModelShape:
    """Multiply-adds by kind.

    Args:
        per_token: of all layers' linear maps, for one token.
        per_pair: of all layers' attention, for one query and one key.
        per_logit_token: of the output layer, for one position.
    """

    per_token: float
    per_pair: float
    per_logit_token: float

    @classmethod
    def of(cls, config) -> "ModelShape | None":
        """The shape of a dense decoder from its text config of transformers, or None when it is not of that kind."""
        if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
            return None
        try:
            head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            attention = config.hidden_size * head_dim * 2 * (config.num_attention_heads + config.num_key_value_heads)
            mlp = 3 * config.hidden_size * config.intermediate_size
            return cls(
                per_token=config.num_hidden_layers * (attention + mlp),
                per_pair=config.num_hidden_layers * 2 * config.num_attention_heads * head_dim,
                per_logit_token=config.hidden_size * config.vocab_size,
            )
        except (AttributeError, TypeError):
            return None

    def cost(self, tokens, pairs, logit_tokens):
        """Multiply-adds of a forward pass over so many tokens, attention pairs and positions with logits."""
        return self.per_token * tokens + self.per_pair * pairs + self.per_logit_token * logit_tokens


def causal(length):
    """Pairs that causal attention computes over so many tokens."""
    return length * (length + 1) / 2


def shared_prompt(prompt, answers):
    """(tokens, pairs, logit tokens) of a prompt that is followed by several answers and computed once."""
    tokens = prompt + sum(answers)
    pairs = causal(prompt) + sum(prompt * answer + causal(answer) for answer in answers)
    return np.array([tokens, pairs, sum(answers)], dtype=float)


def packed_row_load(lengths: Lengths, sequences: Sequences):
    """(tokens, pairs, logit tokens) of each example in the packed row, shape (3, E)."""
    return sum(
        shared_prompt(lengths.of(prompt), [lengths.of(answer) for answer in answers])
        for prompt, answers in sequences.answers_of.items()
    )


def padded_rows_load(lengths: Lengths, sequences: Sequences):
    """The same in padded rows, with attention over whole rows under a mask: a batch of one example at a time."""
    return sum(_loads_of_groups(lengths, sequences))


def _loads_of_groups(lengths: Lengths, sequences: Sequences) -> list:
    loads = []
    for prompt, answers in sequences.answers_of.items():
        tokens = len(answers) * (row := sequences.longest(lengths, prompt))
        loads.append(np.array([tokens, tokens * row, sum(lengths.of(answer) for answer in answers)], dtype=float))
    return loads


def step_load(lengths: Lengths, sequences: Sequences, packed: bool):
    """The same as the third of a step that a forward pass is; of two groups of padded rows the smaller runs once more."""
    if packed:
        return packed_row_load(lengths, sequences)
    first, *others = _loads_of_groups(lengths, sequences)
    again = [np.where(first[0] < other[0], first, other) / 3 for other in others]
    return sum([first, *others, *again])


def shared_long_load(lengths: Lengths):
    """The same for plain long PO with the long prompt computed once for both answers."""
    return shared_prompt(lengths.long_prompt, [lengths.chosen, lengths.rejected])


def padded_long_load(lengths: Lengths):
    """The same for the host's dpo stage on the long pair: two rows padded to the longer one, logits everywhere."""
    row = lengths.long_prompt + np.maximum(lengths.chosen, lengths.rejected)
    row = np.ceil(row / 8) * 8  # its collator pads to a multiple of 8
    return np.array([2 * row, 2 * causal(row), 2 * row], dtype=float)


def predicted_ratios(lengths: Lengths, config, sequences: Sequences, packed: bool) -> dict[str, float]:
    """Our predicted cost over that of the two ways to train on the long pair; empty for an unknown architecture.

    Args:
        config: the model's transformers config.
        sequences: what is trained.
        packed: whether the model takes a packed row.
    """
    shape = ModelShape.of(config.get_text_config())
    if shape is None:
        return {}
    ours = shape.cost(*step_load(lengths, sequences, packed).sum(-1))
    rivals = {HOST: padded_long_load, SHARED: shared_long_load}
    return {name: ours / shape.cost(*load_of(lengths).sum(-1)) for name, load_of in rivals.items()}


def cost_summary(lengths: Lengths, config, sequences: Sequences, packed: bool) -> str:
    """One line: tokens per pair as they will be computed, and the predicted cost. Arguments as above."""
    ours = (packed_row_load if packed else padded_rows_load)(lengths, sequences)
    tokens = {"in the packed row" if packed else "in padded rows": ours}
    tokens |= {SHARED: shared_long_load(lengths), HOST: padded_long_load(lengths)}
    listed = ", ".join(
        f"{load[0].mean():.0f} {name if load is ours else f'in {name}'}" for name, load in tokens.items()
    )
    ratios = [f"{ratio:.2f} of {name}" for name, ratio in predicted_ratios(lengths, config, sequences, packed).items()]
    return f"tokens per pair: {listed}" + (f"; predicted cost of a step: {', '.join(ratios)}" if ratios else "")


def cost_warning(lengths: Lengths, config, sequences: Sequences, packed: bool) -> str | None:
    """One sentence where the host's own stage on the long pair would be cheaper, and why. Arguments as above.

    Of aligned sequences alone: the others are what the host's stage computes, on one pair.
    """

    def ratio(lengths: Lengths, packed: bool) -> float:
        return predicted_ratios(lengths, config, sequences, packed).get(HOST, 0.0)

    if not sequences.long_twins or ratio(lengths, packed) <= 1:
        return None
    one_token = np.ones_like(lengths.chosen)
    if not packed and ratio(lengths, packed=True) <= 1:
        cause = "padded rows compute a prompt once for each answer to it, and attend to all of a row under a mask"
    elif ratio(replace(lengths, chosen=one_token, rejected=one_token), packed=True) <= 1:
        answer = np.mean((lengths.chosen + lengths.rejected) / 2)
        cause = f"answers of {answer:.0f} tokens on average are long beside the contexts and computed on both"
    else:
        rho = np.mean(lengths.short_prompt / lengths.long_prompt)
        cause = f"short contexts of {rho:.2f} times the long ones' tokens on average leave little to save"
    return (
        f"a step is predicted to cost {ratio(lengths, packed):.2f} times {HOST}: {cause}. Quality is another matter."
    )
