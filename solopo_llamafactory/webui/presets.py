"""The recipes' alpha, beta and gamma, by model family and loss."""

from typing import NamedTuple


class Preset(NamedTuple):
    """What choosing a loss fills in."""

    alpha: float
    beta: float
    gamma: float


GAMMA = 0.5  # the host's default, for losses that have no gamma
PRESETS = {
    "qwen": {
        "sigmoid": Preset(3.0, 0.01, GAMMA),
        "orpo": Preset(1.0, 0.1, GAMMA),
        "simpo": Preset(1.0, 2.5, 1.375),
    },
    "llama": {
        "sigmoid": Preset(3.0, 0.01, GAMMA),
        "orpo": Preset(4.0, 0.1, GAMMA),
        "simpo": Preset(1.0, 2.5, 1.375),
    },
}


def preset_of(loss: str, model_name: str | None) -> Preset | None:
    """The recipe's values; Qwen's for a family without recipes, None for a loss without one."""
    family = "llama" if "llama" in (model_name or "").lower() else "qwen"
    return PRESETS[family].get(loss)
