"""Putting the seams in place at the right moments.

Under torchrun a worker's first import is `llamafactory.train.tuner`, whose first lines import torch and with it our
hook: the tuner is half-loaded then and cannot be patched. So the parser's seams are placed when the parser is loaded,
which is always later, and the others at the first call of its `read_args`, when the host is complete.
"""

import os
import sys
from functools import wraps

from .seams import PARSER, place_seams, place_webui_seams, require_all_seams


def join_parser(module) -> None:
    """Called once `llamafactory.hparams.parser` is loaded."""
    place_seams(modules=lambda name: name == PARSER)
    if not getattr(getattr(sys.modules.get("llamafactory.train.tuner"), "__spec__", None), "_initializing", True):
        place_seams()  # joined by hand after the host was loaded


def join_v1_parser(module) -> None:
    """Called once the parser of the host's experimental second version (USE_V1=1) is loaded."""
    original = module.get_args

    @wraps(original)
    def get_args(args=None):
        if args is None and len(sys.argv) > 1 and sys.argv[1].endswith((".yaml", ".yml")):
            from omegaconf import OmegaConf

            args = OmegaConf.to_container(
                OmegaConf.merge(OmegaConf.load(os.path.abspath(sys.argv[1])), OmegaConf.from_cli(sys.argv[2:]))
            )
        if asks_for_solopo(args if args is not None else sys.argv[1:]):
            raise ValueError("`stage: solopo` does not run on the host's version 1 trainers: unset USE_V1.")
        return original(args)

    module.get_args = get_args


def join_webui(module) -> None:
    """Called once the web UI's train tab is loaded, before the modules that import it take copies."""
    place_webui_seams()


def widen_arguments(classes: list[type]) -> list[type]:
    """The host's list of argument classes with ours in place of the fine-tuning arguments."""
    from .arguments import FinetuningArguments, SolopoFinetuningArguments

    if classes and FinetuningArguments not in classes:
        raise AttributeError("FinetuningArguments")  # a missing seam
    return [SolopoFinetuningArguments if cls is FinetuningArguments else cls for cls in classes]


def place_seams_on_first_use(read_args):
    """`read_args` is the first thing that `run_exp` calls, and Ray workers reach it through `get_train_args`."""

    @wraps(read_args)
    def wrapper(args=None):
        args = read_args(args)
        if asks_for_solopo(args):
            if os.environ.get("USE_MCA", "").lower() in ("1", "true", "y"):
                raise ValueError("`stage: solopo` does not run on Megatron: unset USE_MCA.")
            let_memory_segments_grow()
            require_all_seams()
        else:
            place_seams()
        return args

    return wrapper


def let_memory_segments_grow() -> None:
    """Rows differ in length, and torch's default allocator then keeps blocks that no later row fits.

    Read by torch when it first allocates memory on the GPU, which is later.
    """
    if "PYTORCH_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def asks_for_solopo(args) -> bool:
    """Whether raw arguments, a dict or a command line, ask for the stage."""
    if isinstance(args, dict):
        return args.get("stage") == "solopo"
    words = " ".join(map(str, args or [])).replace("=", " ").split()
    return any(pair == ("--stage", "solopo") or pair == ("stage", "solopo") for pair in zip(words, words[1:]))
