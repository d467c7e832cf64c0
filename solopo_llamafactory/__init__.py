"""SoLoPO as a training stage of LLaMA-Factory.

This file and `autoload.py` run inside every `import torch` of an environment that has the package installed, so they
use the standard library only and stay small.
"""

__version__ = "0.3.0"

STAGE = "solopo"  # of `stage:`, and of `formatting:` in dataset_info.json


def enable() -> None:
    """Add `stage: solopo` to LLaMA-Factory in this process, as the automatic hook does.

    For environments that switch PyTorch's entry points off (`TORCH_DEVICE_BACKEND_AUTOLOAD=0`). Call it before
    training starts; calling it twice does nothing.
    """
    from .autoload import enable

    enable()
