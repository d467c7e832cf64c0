"""The names under which a run logs, and what the web UI, the pictures and the guard look for."""

LOSS_PO = "loss/po"  # the preference loss, `pref_ftx` included
LOSS_SOLO_RA = "loss/solo_ra"  # the alignment, alpha included
GAP = "rewards/gap"  # |chosen - chosen_long|
MARGINS = "rewards/margins"  # chosen - rejected
ACCURACIES = "rewards/accuracies"  # how often chosen > rejected


def reward_of(sequence: str) -> str:
    """The reward of a sequence (`chosen`, `rejected`, `chosen_long` ...)."""
    return f"rewards/{sequence}"


def logps_of(sequence: str) -> str:
    """The log-probability that the reward is made of: a sum, or the mean of a length-normalized algorithm."""
    return f"logps/{sequence}"
