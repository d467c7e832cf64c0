"""What is compared: the ways to train on the same pairs, each as arguments of LLaMA-Factory's trainer."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: as the table has it.
        arguments: what this method adds to a run's arguments.
        learning_rates: candidates; the best on development questions is reported.
    """

    name: str
    arguments: dict = field(hash=False)
    learning_rates: tuple[float, ...]

    def folder(self, learning_rate: float) -> str:
        """A name for its files."""
        return f"{self.name} {learning_rate:g}".replace(",", "").replace(" ", "_")


# Of each objective: its name, its arguments (beta and gamma as its authors' recipes have them) and learning rates.
OBJECTIVES = {
    "SimPO": ({"pref_loss": "simpo", "pref_beta": 2.0, "simpo_gamma": 0.5}, (1e-4, 2e-4, 4e-4, 8e-4)),
    "ORPO": ({"pref_loss": "orpo", "pref_beta": 0.1}, (2e-4, 4e-4, 8e-4, 1.6e-3)),
    "DPO": ({"pref_loss": "sigmoid", "pref_beta": 0.1}, (1e-4, 2e-4, 4e-4, 8e-4)),
}
SFT_RATES = (1e-4, 2e-4, 4e-4, 8e-4)
# The stage's defaults, named, so that a row stays what it is when they move; and the formula as the paper has it.
DEFAULT = {"solopo_gradient": "one_sided", "solopo_reference": "short"}
PAPER = {"solopo_gradient": "both", "solopo_reference": "matched"}
VARIANTS = {
    "stop-gradient": {"solopo_gradient": "long"},
    "capped": {"solopo_gradient": "capped"},
    "alpha 0.5": {"solopo_alpha": 0.5},
    "alpha 4": {"solopo_alpha": 4.0},
    "alpha auto": {"solopo_alpha": "auto"},
}


def methods(objectives: list[str], variants: bool) -> list[Method]:
    """SFT on long contexts, then each objective on short contexts, on long ones, as SoLoPO with alpha 1, and as the paper's.

    Args:
        variants: SoLoPO with other gradients and other alphas as well.
    """
    listed = [Method("SFT-long", {"stage": "sft", "dataset": "pairs_sft"}, SFT_RATES)]
    for name in objectives:
        arguments, rates = OBJECTIVES[name]
        arguments = {"stage": "solopo", "dataset": "pairs", **arguments}
        listed += [Method(f"{view}-{name}", {**arguments, "solopo_view": view}, rates) for view in ("short", "long")]
        solo = {**arguments, **DEFAULT}
        listed += [Method(f"SoLo-{name}", solo, rates), Method(f"SoLo-{name}, paper", {**arguments, **PAPER}, rates)]
        if name == "DPO":
            listed.append(Method(f"SoLo-{name}, paper, short reference", {**solo, "solopo_gradient": "both"}, rates))
        if variants:
            listed += [Method(f"SoLo-{name}, {label}", {**solo, **more}, rates) for label, more in VARIANTS.items()]
    return listed
