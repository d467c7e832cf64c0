"""One picture of a run: the two parts of the loss, the rewards that are aligned, and the gap between them."""

import json
import os
from pathlib import Path

from ..common.files import atomic_path
from . import metrics


FILE_NAME = "training_solopo.png"


def plot_training(output_dir: str) -> str | None:
    """Draw `output_dir`/training_solopo.png from its trainer_state.json.

    Returns:
        The picture's path, or None where fewer than two steps were logged.
    """
    from matplotlib.figure import Figure

    state = json.loads(Path(output_dir, "trainer_state.json").read_text(encoding="utf-8"))
    logs = [log for log in state["log_history"] if metrics.LOSS_PO in log]
    if len(logs) < 2:
        return None
    panels = {
        "loss": {
            "loss": "loss",
            metrics.LOSS_PO: f"preference ({metrics.LOSS_PO})",
            metrics.LOSS_SOLO_RA: f"alignment ({metrics.LOSS_SOLO_RA})",
        },
        "reward": {
            metrics.reward_of("chosen"): "chosen",
            metrics.reward_of("rejected"): "rejected",
            metrics.reward_of("chosen_long"): "chosen, long context",
        },
        "alignment gap": {metrics.GAP: "|chosen - chosen, long context|"},
    }
    if metrics.TURNED in logs[0]:
        panels["examples turned around"] = {metrics.TURNED: "chosen lowered against the preference loss"}
    if any(metrics.PROBE_CUT_OFF in log for log in state["log_history"]):
        panels["answers to held-out questions"] = {
            metrics.probe_of("short"): "right, short context",
            metrics.probe_of("long"): "right, long context",
            metrics.PROBE_CUT_OFF: "cut off",
        }
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(panels)), panels.items()):
        for key, label in curves.items():
            points = [(log["step"], log[key]) for log in state["log_history"] if key in log]
            if points:
                style = "--" if key == metrics.reward_of("chosen_long") else "-"  # it comes to lie on the short one
                marker = "o" if key.startswith("probe/") else None
                axes.plot(*zip(*points), style, marker=marker, markersize=3, label=label, linewidth=1.5)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path = os.path.join(output_dir, FILE_NAME)
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, dpi=90)
    return path
