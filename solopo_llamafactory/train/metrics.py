"""The names under which a run logs, and what the web UI, the pictures and the guard look for."""

LOSS_PO = "loss/po"  # the preference loss, `pref_ftx` included
LOSS_SOLO_RA = "loss/solo_ra"  # the alignment, alpha included
GAP = "rewards/gap"  # |chosen - chosen_long|
TURNED = "rewards/chosen_turned"  # share of examples whose short chosen answer the alignment lowers against L_PO
ALPHA = "alpha"  # with `solopo_alpha: auto`
MARGINS = "rewards/margins"  # chosen - rejected
ACCURACIES = "rewards/accuracies"  # how often chosen > rejected
PROBE_CUT_OFF = "probe/cut_off"  # share of the answers of `solopo_probe` that did not end
PROBE_SECONDS = "probe/seconds"


def reward_of(sequence: str) -> str:
    """The reward of a sequence (`chosen`, `rejected`, `chosen_long` ...)."""
    return f"rewards/{sequence}"


def probe_of(context: str) -> str:
    """The share of right answers (sub-EM) of `solopo_probe` on the `short` or the `long` context."""
    return f"probe/{context}_sub_em"


def logps_of(sequence: str) -> str:
    """The log-probability that the reward is made of: a sum, or the mean of a length-normalized algorithm."""
    return f"logps/{sequence}"


def end_of(sequence: str) -> str:
    """The log-probability of the token that ends the answer; where it falls, answers may no longer end."""
    return f"logps/{sequence}_end"
