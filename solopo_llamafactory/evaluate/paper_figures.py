"""What the SoLoPO paper (arXiv 2505.11166) publishes for Qwen2.5-7B-Instruct, and what to know about it."""

# Percent: LongBench-v1 QA, RULER QA, NIAH-Plus; None where the paper has no figure.
PAPER = {
    "Qwen2.5-7B-Instruct": (34.4, 44.0, None),
    "Long-DPO": (46.9, 62.2, 62.0),
    "SoLo-DPO": (47.8, 62.8, 65.6),
    "Long-SimPO": (44.6, 57.5, 52.7),
    "SoLo-SimPO": (48.4, 63.9, 66.5),
    "Long-ORPO": (45.3, 55.1, 64.8),
    "SoLo-ORPO": (49.5, 65.1, 66.6),
    "LongPO (reimplemented)": (43.7, 52.2, None),
}
PAPER_COLUMNS = ("LongBench QA", "RULER QA", "NIAH-Plus")

PAPER_NOTES = (
    "The paper's rows are Qwen2.5-7B-Instruct. Which tasks and lengths enter its averages, its prompts and its scorer are "
    "not known to us; the other rows use the harness's. Compare your rows with each other, and gains over the base "
    "model with the paper's gains, not levels with levels.",
    "± is the harness's standard error over questions; an average's is made from those of its tasks. It says nothing "
    "about training seeds. The harness gives none for RULER, the paper none at all.",
)
