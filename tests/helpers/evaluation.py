"""Arguments of a small grid."""

from pathlib import Path

from solopo_llamafactory.evaluate.arguments import EvalArguments
from tests.helpers.questions import CORPUS


def eval_arguments(folder: Path, **changes) -> EvalArguments:
    """Twelve questions of the demo corpus in nine cells, in the folder `out`; keyword arguments replace fields."""
    values = {
        "source": "musique",
        "input": str(CORPUS),
        "tokenizer": "some/model",
        "template": "qwen",
        "output": str(folder / "out"),
        "lengths": [320, 700, 1200],
        "depths": [0, 0.5, 1],
        "num_questions": 12,
        "preprocessing_num_workers": 1,
        "models": [{"name": "base"}],
    }
    return EvalArguments(**{**values, **changes})
