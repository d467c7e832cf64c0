"""Two groups of padded rows are trained as one loss, with a backward pass for each."""

import json
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from benchmarks.padded_groups import backward_each, in_one_batch, one_graph, peak_bytes
from solopo_llamafactory.data.padding import pad
from solopo_llamafactory.data.sequences import Example, sequences_of
from solopo_llamafactory.model.logprobs import answer_logps, token_logps
from solopo_llamafactory.train.row_groups import SmallerGroup, followed_by_another
from solopo_llamafactory.train.trainer import SolopoTrainer
from tests.helpers.runs import read_logs, run_host
from tests.model.test_attention import make_examples, padded_logps, plain_logps
from tests.model.test_probe import LINEAR, MAMBA, MOE, make_model


KEYS = ("loss", "grad_norm", "rewards/gap", "logps/chosen", "logps/chosen_long")
RECURRENT = [
    ("Qwen3Next", {**LINEAR, **MOE, "shared_expert_intermediate_size": 16}),
    ("FalconH1", {"head_dim": 8, **MAMBA}),
    ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
]
CPU = torch.device("cpu")


def forward(model, rows) -> torch.Tensor:
    logits = model(rows.input_ids_BW, attention_mask=rows.attention_mask_BW, position_ids=rows.position_ids_BW).logits
    return token_logps(logits.flatten(0, 1)[rows.logit_positions_A], rows.targets_A)


def backward_by_group(model, examples, autocast=nullcontext) -> torch.Tensor:
    """A loss that couples all sequences, as `SolopoTrainer.training_step` goes about it. Returns the log-probs."""
    batch, smaller = pad(examples, sequences_of("both"), pad_token_id=0), SmallerGroup(CPU)
    large, small = batch.groups
    with autocast():
        leaf_A = smaller.first(lambda: forward(model, small))
        logps_A = torch.cat([forward(model, large), leaf_A])[batch.order_A]
        logps = answer_logps(logps_A, batch.answer_lengths_NS)
        loss = coupled(logps)
        smaller.take_gradient(loss)
    loss.backward()
    with autocast():
        again = smaller.again(lambda: forward(model, small))
    again.backward()
    return logps


def coupled(logps: torch.Tensor) -> torch.Tensor:
    return (logps[:, 0] * logps[:, 1] / 50 + (logps[:, 0] - logps[:, 2]).abs()).mean()


@pytest.mark.parametrize("name, change", [("Qwen2", {}), *RECURRENT])
def test_a_backward_pass_for_each_group_equals_plain_forwards(name, change):
    model, examples = make_model(name, **change), make_examples(2)
    expected_logps = plain_logps(model, examples, sequences_of("both"))
    coupled(expected_logps).backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logps = backward_by_group(model, examples)
    torch.testing.assert_close(logps, expected_logps, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max()
        torch.testing.assert_close(parameter.grad / scale, expected[name] / scale, rtol=0, atol=1e-4, msg=name)


def test_under_autocast_all_weights_get_their_gradient():
    model, examples = make_model("Qwen2"), make_examples(2)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    with autocast():
        loss = coupled(padded_logps(model, examples, sequences_of("both")))
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    backward_by_group(model, examples, autocast)
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max()
        torch.testing.assert_close(parameter.grad / scale, expected[name] / scale, rtol=0, atol=0.05, msg=name)


def test_noise_is_drawn_once_and_what_comes_after_is_new():
    """The gradient belongs to the log-probs that the loss saw only if both passes have the same noise."""
    weight = torch.ones(3, requires_grad=True)
    drawn = []

    def noisy() -> torch.Tensor:
        drawn.append(torch.rand(3))
        return weight * drawn[-1]

    group = SmallerGroup(CPU)
    leaf = group.first(noisy)
    between = torch.rand(3)
    group.take_gradient((leaf**2).sum())
    group.again(noisy).backward()
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(weight.grad, 2 * drawn[0] ** 2)
    assert not torch.equal(torch.rand(3), between)


def test_only_the_last_pass_of_a_step_ends_it():
    state = SimpleNamespace(sync_gradients=True)
    state._set_sync_gradients = lambda value: setattr(state, "sync_gradients", value)

    class Accelerator:
        gradient_state = state
        sync_gradients = property(lambda self: state.sync_gradients)

    with followed_by_another(Accelerator(), torch.nn.Linear(1, 1)):
        assert not state.sync_gradients
    assert state.sync_gradients
    state.sync_gradients = False
    with followed_by_another(Accelerator(), torch.nn.Linear(1, 1)):
        pass
    assert not state.sync_gradients


@pytest.fixture
def padded(monkeypatch):
    """Makes every model take padded rows."""
    return lambda: monkeypatch.setattr("solopo_llamafactory.model.probe.packing_obstacle", lambda *_: "it is a test")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="full"),
        pytest.param({"finetuning_type": "lora", "pref_loss": "sigmoid", "learning_rate": 1e-2}, id="LoRA"),
        pytest.param({"pref_loss": "sigmoid", "solopo_precompute_ref": False}, id="live reference"),
        pytest.param({"gradient_accumulation_steps": 2, "solopo_alpha": "auto"}, id="accumulation"),
        pytest.param({"solopo_align": "both", "solopo_gradient": "both"}, id="both aligned"),
        pytest.param({"disable_gradient_checkpointing": True}, id="no checkpoints"),
        pytest.param({"use_reentrant_gc": False, "solopo_checkpoint_layers": 1}, id="one checkpoint"),
    ],
)
def test_padded_rows_train_as_the_packed_row_does(overrides, train, padded, tmp_path):
    packed = train(output_dir=str(tmp_path / "packed"), **overrides)
    padded()
    logs = train(output_dir=str(tmp_path / "padded"), **overrides)
    assert len(logs) == len(packed) == 3
    for log, other in zip(logs, packed):
        for key in KEYS:
            assert log[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6), key


def test_what_is_counted_as_computed(arguments, padded, tmp_path, monkeypatch):
    """Padding is counted, the second run of the smaller group is not: it computes nothing new."""
    trainers, tokens = [], []
    own = SolopoTrainer.training_step

    def watched(self, model, inputs, *args, **kwargs):
        trainers.append(self)
        tokens.append(sum(rows["input_ids"].numel() for rows in inputs["row_groups"]))
        return own(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SolopoTrainer, "training_step", watched)
    padded()
    args = arguments(include_num_input_tokens_seen=True, include_effective_tokens_per_second=True)
    run_host(args)
    assert trainers[0].computed_tokens == sum(tokens) > 0
    assert read_logs(args["output_dir"])[-1]["num_input_tokens_seen"] == sum(tokens)
    state = json.loads((tmp_path / "output" / "trainer_state.json").read_text())
    assert state["total_flos"] > 0


def test_a_loss_that_is_not_finite_leaves_out_the_step_of_both_groups(train, padded, tmp_path, monkeypatch):
    own = SolopoTrainer.example_losses

    def broken(self, model, batch):
        losses, metrics = own(self, model, batch)
        return (losses * float("nan"), metrics) if self.state.global_step == 1 else (losses, metrics)

    padded()
    common = {"disable_shuffling": True, "solopo_nonfinite": "skip", "logging_steps": 3}
    monkeypatch.setattr(SolopoTrainer, "example_losses", broken)
    (log,) = train(output_dir=str(tmp_path / "broken"), **common)
    assert log["steps_skipped"] == 1 and 0 < log["loss"] < 100


def test_gradients_add_to_those_of_an_earlier_micro_batch():
    name, change = RECURRENT[2]
    model, examples = make_model(name, **change), make_examples(1)
    backward_by_group(model, examples)
    once = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    backward_by_group(model, examples)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name], rtol=1e-5, atol=1e-7)


def test_a_step_holds_less_than_in_one_graph_or_one_batch():
    """In one graph both groups' activations live together, and a gradient waits for the other group's share."""
    example = Example([20] * 30, [30] * 200, [40] * 5, [50] * 3)
    model = make_model("Lfm2", **dict(RECURRENT)["Lfm2"])
    grouped, together = pad([example], sequences_of("both"), pad_token_id=0), in_one_batch(example)
    peaks = []
    for batch, step in ((together, one_graph), (grouped, one_graph), (grouped, backward_each)):
        step(model, batch)  # leaves gradients, as an earlier micro-batch does
        peaks.append(peak_bytes(partial(step, model, batch)))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert peaks[1] < 0.6 * peaks[0]
    assert peaks[2] < peaks[1] - weights
