"""The host's entry point under FSDP on a CPU.

Without a GPU, accelerate runs DDP where FSDP is asked for and says nothing. Started by `accelerate launch` like the
host's own launcher; the one thing that differs is accelerate's choice of the distributed type.
"""

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


original = AcceleratorState.__init__


def choose_fsdp(self, *args, fsdp_plugin=None, **kwargs):
    original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = choose_fsdp
    from llamafactory.train.tuner import run_exp

    run_exp()
