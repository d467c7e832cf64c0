"""Fewer recomputed layers change memory and time, never the result; the plan stays inside what was measured."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from solopo_llamafactory.model import activation_checkpointing
from solopo_llamafactory.model.activation_checkpointing import (
    CheckpointingByNeed,
    Measured,
    Memory,
    counting_kept_bytes,
)
from solopo_llamafactory.train.trainer import SolopoTrainer


GIB = 2**30


class Layer(GradientCheckpointingLayer):
    """Keeps its input and the ReLU's output: 2 x 4 bytes for each of 8 x tokens numbers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.gradient_checkpointing = True

    def forward(self, hidden):
        return torch.relu(self.linear(hidden))


def recomputed(layers) -> list[bool]:
    return [layer.gradient_checkpointing for layer in layers]


def test_kept_bytes_are_what_autograd_saves_without_the_weights():
    layer, sizes = Layer(), []
    hidden = torch.randn(1, 50, 8, requires_grad=True)
    layer.gradient_checkpointing = False
    with counting_kept_bytes(layer, sizes):
        layer(hidden).sum().backward()
    assert sum(sizes) == 2 * 50 * 8 * 4
    assert hidden.grad.abs().sum() > 0  # the hooks hand the tensors back as they were
    layer(hidden)
    assert len(sizes) == 2  # gone with the context


@pytest.mark.parametrize(
    "tokens, kept",
    [
        (1000, 1 + 5),  # 16 GiB less the working set hold five more layers of 2 GiB
        (500, 1 + 10),  # the working set may consist of gradients: it does not shrink
        (1200, 1 + 2),  # 1.44 times as much of everything: (16 - 8.64) / 2.88
        (4000, 1),  # nothing is left
    ],
)
def test_kept_layers_by_hand(tokens, kept):
    measured = Measured(tokens=1000, layer_bytes=2 * GIB, working_bytes=6 * GIB)
    assert measured.kept_layers(tokens, available=16 * GIB) == kept


class FakeDevice:
    """A GPU of 32 GiB; a forward and backward pass takes 2 GiB and what layers keep."""

    def __init__(self, monkeypatch, available: float):
        self.available, self.retries, self.kept_bytes = available, 0, 0
        monkeypatch.setattr(activation_checkpointing, "read_memory", self.read)

    def read(self) -> Memory:
        free, reserved, allocated = int(self.available * GIB) - GIB, 2 * GIB, GIB
        return Memory(32 * GIB, free, reserved, allocated, peak=3 * GIB + self.kept_bytes, retries=self.retries)


def run(by_need: CheckpointingByNeed, tokens: int, optimizer_steps: int) -> list[bool]:
    """One micro-batch; which layers recomputed in it."""
    with by_need.micro_batch(tokens, optimizer_steps):
        seen = recomputed(by_need.layers)
        hidden = torch.randn(1, tokens, 8, requires_grad=True)
        for layer in by_need.layers:
            layer.gradient_checkpointing = False  # no checkpointing function here; the flags are what is tested
            hidden = layer(hidden)
        hidden.sum().backward()
    return seen


def layers_of(tokens: int, number: float) -> float:
    """GiB that so many layers keep for a row of so many tokens."""
    return number * 2 * tokens * 8 * 4 / GIB


def test_by_need_measures_after_the_first_optimizer_step_and_then_decides_by_the_row(monkeypatch):
    device = FakeDevice(monkeypatch, available=0)
    by_need = CheckpointingByNeed([Layer() for _ in range(4)], longest_row=200, sharded=False)
    all_but_last = [True, True, True, False]
    assert run(by_need, 100, optimizer_steps=0) == all_but_last
    assert run(by_need, 100, optimizer_steps=0) == all_but_last  # accumulation
    assert by_need.measured is None
    assert run(by_need, 100, optimizer_steps=1) == all_but_last
    assert by_need.measured == Measured(100, layer_bytes=2 * 100 * 8 * 4, working_bytes=2 * GIB)

    device.available = 1 + 2 + layers_of(100, 2.5)  # beside the margin and the working set
    assert run(by_need, 100, optimizer_steps=2) == [True, False, False, False]
    assert run(by_need, 50, optimizer_steps=2) == [False] * 4
    device.available = 1 + 2  # something else was allocated since
    assert run(by_need, 100, optimizer_steps=2) == all_but_last


def test_a_longer_row_is_measured_again(monkeypatch):
    device = FakeDevice(monkeypatch, available=31)
    by_need = CheckpointingByNeed([Layer() for _ in range(3)], longest_row=200, sharded=False)
    for step in range(2):
        run(by_need, 100, optimizer_steps=step)
    device.kept_bytes = 2 * 2 * 150 * 8 * 4  # two more layers than in the first measurement kept theirs
    assert run(by_need, 150, optimizer_steps=2) == [False] * 3
    assert by_need.measured == Measured(150, layer_bytes=2 * 150 * 8 * 4, working_bytes=2 * GIB)


def test_a_resumed_run_measures_its_own_second_step(monkeypatch):
    FakeDevice(monkeypatch, available=31)
    by_need = CheckpointingByNeed([Layer() for _ in range(2)], longest_row=100, sharded=False)
    run(by_need, 100, optimizer_steps=50)
    assert by_need.measured is None
    run(by_need, 100, optimizer_steps=51)
    assert run(by_need, 100, optimizer_steps=52) == [False, False]


def test_an_allocator_that_ran_out_is_left_more(monkeypatch):
    device = FakeDevice(monkeypatch, available=1 + 2 + layers_of(100, 5))
    by_need = CheckpointingByNeed([Layer() for _ in range(3)], longest_row=100, sharded=False)
    for step in range(3):
        flags = run(by_need, 100, optimizer_steps=step)
    assert flags == [False] * 3
    device.retries += 1
    for step in (3, 4):
        assert run(by_need, 100, optimizer_steps=step) == [True, True, False]
    device.available += 1
    assert run(by_need, 100, optimizer_steps=5) == [False] * 3


def test_sharded_weights_are_decided_for_the_longest_row_and_agreed_on(monkeypatch):
    device = FakeDevice(monkeypatch, available=0)
    asked, answer = [], 1
    monkeypatch.setattr(activation_checkpointing, "smallest", lambda number: asked.append(number) or answer)
    by_need = CheckpointingByNeed([Layer() for _ in range(3)], longest_row=200, sharded=True)
    for step in range(2):
        run(by_need, 100, optimizer_steps=step)
    device.available = 1 + 2 * 4 + layers_of(100, 1.5 * 4)  # twice the length: four times of everything
    assert run(by_need, 10, optimizer_steps=2) == [True, True, False]  # another process has less memory
    assert run(by_need, 100, optimizer_steps=2) == [True, True, False]
    answer = 2
    assert run(by_need, 10, optimizer_steps=3) == [True, False, False]
    assert asked == [2, 2]  # once an optimizer step, for the longest row


def test_processes_agree_on_the_smallest(monkeypatch):
    others = torch.tensor(3)

    def all_reduce(tensor, op):
        assert op is torch.distributed.ReduceOp.MIN
        tensor.copy_(torch.minimum(tensor, others))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    assert [activation_checkpointing.smallest(number) for number in (2, 5)] == [2, 3]


@pytest.mark.parametrize("deepspeed_stage, fsdp, sharded", [(None, False, False), (2, False, False), (3, False, True)])
def test_the_trainer_knows_what_shards_weights(deepspeed_stage, fsdp, sharded, monkeypatch):
    plugin = SimpleNamespace(zero_stage=deepspeed_stage)
    trainer = SimpleNamespace(
        model=nn.Sequential(Layer(), Layer()),
        finetuning_args=SimpleNamespace(solopo_checkpoint_layers="auto"),
        is_fsdp_enabled=fsdp,
        is_deepspeed_enabled=deepspeed_stage is not None,
        accelerator=SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)),
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    chosen = SolopoTrainer._choose_checkpointing(trainer, longest_row=100)
    assert isinstance(chosen, CheckpointingByNeed) and chosen.sharded is sharded and len(chosen.layers) == 2


def test_without_a_gpu_auto_recomputes_all_layers(train, tmp_path):
    auto = train(output_dir=str(tmp_path / "auto"))
    none = train(solopo_checkpoint_layers=0, output_dir=str(tmp_path / "none"))
    one = train(solopo_checkpoint_layers=1, output_dir=str(tmp_path / "one"))
    for other in (none, one):
        assert [log["loss"] for log in other] == pytest.approx([log["loss"] for log in auto], rel=1e-6)
        assert [log["grad_norm"] for log in other] == pytest.approx([log["grad_norm"] for log in auto], rel=1e-5)


@pytest.mark.parametrize("number, expected", [(0, [False, False]), (1, [True, False]), (99, [True, True])])
def test_a_number_of_layers(number, expected):
    layers = [Layer(), Layer()]
    fixed = activation_checkpointing.FixedCheckpointing(layers, number)
    activation_checkpointing.recompute_first(layers, 2)  # as transformers does when training begins
    with fixed.micro_batch(tokens=1, optimizer_steps=0):
        assert recomputed(layers) == expected


def test_the_hosts_own_switch_does_not_undo_the_number(train, monkeypatch):
    seen = []
    step = activation_checkpointing.FixedCheckpointing.micro_batch

    @contextmanager
    def micro_batch(self, *args):
        with step(self, *args):
            seen.append(recomputed(self.layers))
            yield

    monkeypatch.setattr(activation_checkpointing.FixedCheckpointing, "micro_batch", micro_batch)
    train(solopo_checkpoint_layers=1, gradient_checkpointing=True)
    assert seen == [[True, False]] * 3
