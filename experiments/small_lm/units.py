"""What is measured: units, each one training run with its evaluation, in the order of their worth."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """Numbers of a run of the experiment.

    Attributes:
        short_tokens, long_tokens: most tokens of the prompts that are trained on.
        n, temperature: answers sampled for a question on its short prompt.
        pairs, pairs_per_question: at most.
        steps, batch_size, accumulation: of training; a step takes batch_size * accumulation pairs.
        lengths: prompt tokens in evaluation, by part.
        questions: in each cell of the evaluation, by part; at most.
        depths: where the evidence stands.
        sampled_tokens, answer_tokens: most tokens of an answer, in sampling and in evaluation.
    """

    short_tokens: int = 1100
    long_tokens: int = 7500
    n: int = 16
    temperature: float = 0.85
    pairs: int = 640
    pairs_per_question: int = 2
    steps: int = 40
    batch_size: int = 4
    accumulation: int = 4
    lengths: dict[str, list[int]] = field(
        default_factory=lambda: {"dev": [1100, 7500], "test": [300, 1100, 3500, 7500]}
    )
    questions: dict[str, int] = field(default_factory=lambda: {"dev": 100, "test": 200})
    depths: tuple[float, ...] = (0.0, 0.5, 1.0)
    sampled_tokens: int = 64
    answer_tokens: int = 32


SIZES = {
    "gpu": Size(),
    "tiny": Size(  # whether all of it runs, on a tiny model whose tokenizer spends more tokens on a word
        short_tokens=1200,
        long_tokens=2000,
        n=8,
        temperature=1.0,
        pairs=4,
        steps=2,
        batch_size=1,
        accumulation=2,
        lengths={"dev": [1200, 2000], "test": [800, 2000]},
        questions={"dev": 2, "test": 3},
        depths=(0.0, 1.0),
        sampled_tokens=8,
        answer_tokens=8,
    ),
}

# Of each loss: LLaMA-Factory's arguments as the recipes have them, and learning rates, the likeliest first.
LOSSES = {
    "ORPO": ({"pref_loss": "orpo", "pref_beta": 0.1}, (4e-5, 2e-5, 8e-5, 1e-5)),
    "SimPO": ({"pref_loss": "simpo", "pref_beta": 2.5, "simpo_gamma": 1.375}, (1e-5, 2e-5, 5e-6, 4e-5)),
    "DPO": ({"pref_loss": "sigmoid", "pref_beta": 0.1, "solopo_reference": "short"}, (1e-5, 2e-5, 5e-6, 4e-5)),
}
# Ways to use the pairs. `SoLo` is the paper's formula with its alpha.
KINDS = {
    "short": {"solopo_view": "short"},
    "long": {"solopo_view": "long"},
    "SoLo": {"solopo_gradient": "both"},
    "SoLo_long": {"solopo_gradient": "long"},
    "SoLo_one_sided": {"solopo_gradient": "one_sided"},
    "SoLo_capped": {"solopo_gradient": "capped"},
}
ALPHA = {"ORPO": 1.0, "SimPO": 1.0, "DPO": 3.0}  # the paper's, on Qwen2.5-7B-Instruct
BASE = "base"


@dataclass(frozen=True)
class Unit:
    """One row of the results: a method at a learning rate, or the base model."""

    method: str
    rate: float | None
    seed: int
    arguments: dict = field(hash=False)  # of LLaMA-Factory's trainer

    @property
    def name(self) -> str:
        """A name for its files and its row."""
        return f"{self.method}_{self.rate:g}_{self.seed}" if self.rate else self.method

    @property
    def view(self) -> str:
        """Which prompts it trains on; runs of one view take the same time and the same tokens."""
        return self.arguments.get("solopo_view", "both") if self.rate else BASE


def unit_of(loss: str, kind: str, rate: float | None = None, seed: int = 0) -> Unit:
    """A training of `kind` with `loss`, at its likeliest learning rate where none is given."""
    common, rates = LOSSES[loss]
    arguments = {**common, **KINDS[kind]}
    if kind not in ("short", "long"):
        arguments["solopo_alpha"] = ALPHA[loss]
    elif "solopo_reference" in arguments:
        del arguments["solopo_reference"]
    return Unit(f"{kind}-{loss}", rate or rates[0], seed, arguments)


def plan(losses: Sequence[str], kinds: Sequence[str], seeds: Sequence[int], most: int | None = None) -> list[Unit]:
    """All units, of `most` learning rates: the base first, then seed by seed and rate by rate every method, so that what is cut off is worth least."""
    units = [Unit(BASE, None, 0, {})]
    for seed in seeds:
        for turn in range(max(len(LOSSES[loss][1][:most]) for loss in losses)):
            for loss in losses:
                units += [unit_of(loss, kind, LOSSES[loss][1][turn], seed) for kind in kinds]
    return units
