"""Fewer recomputed layers change memory and time, never the result; the plan stays inside what was measured."""

import pytest
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from solopo_llamafactory import checkpointing
from solopo_llamafactory.checkpointing import CheckpointingByNeed, Memory, Plan, counting_kept_bytes


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
        (1000, 1 + 5),  # 10 GiB hold five more layers of 2 GiB
        (500, 1 + 10),
        (2000, 1 + 1),  # 6 GiB go to the longer working set, the other 4 hold one layer of 4 GiB
        (4000, 1),  # nothing is left
        (1, 28),
    ],
)
def test_kept_layers_by_hand(tokens, kept):
    plan = Plan(tokens=1000, layer_bytes=2 * GIB, working_bytes=6 * GIB, budget=10 * GIB, retries=0)
    assert plan.kept_layers(tokens, num_layers=28) == kept


@pytest.mark.parametrize("tokens", [10, 700, 1000, 1500, 3000])
def test_a_plan_never_exceeds_its_budget(tokens):
    plan = Plan(tokens=1000, layer_bytes=2 * GIB, working_bytes=6 * GIB, budget=11 * GIB, retries=0)
    growth = tokens / plan.tokens
    more = plan.kept_layers(tokens, num_layers=10) - 1
    used = more * plan.layer_bytes * growth + plan.working_bytes * max(0, growth - 1)
    assert more == 0 or used <= plan.budget


class FakeDevice:
    """A GPU of 32 GiB, of which `free` are left."""

    def __init__(self, monkeypatch, free: float):
        self.free, self.retries = free, 0
        monkeypatch.setattr(checkpointing, "read_memory", self.read)

    def read(self) -> Memory:
        return Memory(32 * GIB, int(self.free * GIB), allocated=GIB, peak=3 * GIB, retries=self.retries)


def run(by_need: CheckpointingByNeed, tokens: int, optimizer_steps: int) -> list[bool]:
    """One micro-batch; which layers recomputed in it."""
    with by_need.micro_batch(tokens, optimizer_steps):
        seen = recomputed(by_need.layers)
        hidden = torch.randn(1, tokens, 8, requires_grad=True)
        for layer in by_need.layers:
            layer.gradient_checkpointing = False  # no checkpointing function here; the flags are what is tested
            hidden = layer(hidden)
        for layer, flag in zip(by_need.layers, seen):
            layer.gradient_checkpointing = flag
        hidden.sum().backward()
    return seen


def test_by_need_measures_after_the_first_optimizer_step_and_then_follows_the_row(monkeypatch):
    device = FakeDevice(monkeypatch, free=0)
    by_need = CheckpointingByNeed([Layer() for _ in range(4)], longest_row=200, sharded=False)
    layer_bytes = 2 * 100 * 8 * 4
    # As if two more layers of 100 tokens fitted beside the margin of 1 GiB.
    device.free = 1 + 2.5 * layer_bytes / GIB

    all_but_last = [True, True, True, False]
    assert run(by_need, 100, optimizer_steps=0) == all_but_last
    assert run(by_need, 100, optimizer_steps=0) == all_but_last  # accumulation
    assert by_need.plan is None
    assert run(by_need, 100, optimizer_steps=1) == all_but_last  # measured
    assert by_need.plan.layer_bytes == layer_bytes
    assert run(by_need, 100, optimizer_steps=2) == [True, False, False, False]
    assert run(by_need, 50, optimizer_steps=2) == [False] * 4
    assert run(by_need, 400, optimizer_steps=2) == all_but_last


def test_a_resumed_run_measures_its_own_second_step(monkeypatch):
    FakeDevice(monkeypatch, free=31)
    by_need = CheckpointingByNeed([Layer() for _ in range(2)], longest_row=100, sharded=False)
    run(by_need, 100, optimizer_steps=50)
    assert by_need.plan is None
    run(by_need, 100, optimizer_steps=51)
    assert run(by_need, 100, optimizer_steps=52) == [False, False]


def test_an_allocator_that_ran_out_gets_memory_back(monkeypatch):
    device = FakeDevice(monkeypatch, free=0)
    by_need = CheckpointingByNeed([Layer() for _ in range(3)], longest_row=100, sharded=False)
    device.free = 1 + 5 * 2 * 100 * 8 * 4 / GIB
    for step in range(3):
        flags = run(by_need, 100, optimizer_steps=step)
    assert flags == [False] * 3
    device.retries += 1
    assert run(by_need, 100, optimizer_steps=3) == [True, True, False]


def test_sharded_weights_fix_the_plan_by_the_longest_row_and_agree(monkeypatch):
    device = FakeDevice(monkeypatch, free=0)
    asked, answer = [], 2
    monkeypatch.setattr(checkpointing, "agree_on_largest", lambda number: asked.append(number) or answer)
    by_need = CheckpointingByNeed([Layer() for _ in range(3)], longest_row=200, sharded=True)
    # Beside the margin: 2 GiB more of working set for a row twice as long, and one and a half of its layers.
    device.free = 1 + 2 + 1.5 * 2 * 200 * 8 * 4 / GIB
    for step in range(2):
        run(by_need, 100, optimizer_steps=step)
    assert run(by_need, 10, optimizer_steps=2) == [True, True, False]  # another process needs two
    assert run(by_need, 200, optimizer_steps=2) == [True, True, False]
    answer = 1
    assert run(by_need, 10, optimizer_steps=3) == [True, False, False]
    assert asked == [1, 1]  # once an optimizer step, for the longest row


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
    checkpointing.FixedCheckpointing(layers, number)
    assert recomputed(layers) == expected
