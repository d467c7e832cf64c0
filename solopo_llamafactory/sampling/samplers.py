"""Which sampler asks a model."""

from .arguments import SamplingArguments
from .base import Sampler


def make_sampler(args: SamplingArguments) -> Sampler:
    """What writes answers. Imports are here, so that a server needs no engine and an engine no client."""
    if args.infer_backend == "openai":
        from .server import ServerSampler

        return ServerSampler(args)
    from .engine import EngineSampler

    return EngineSampler(args)
