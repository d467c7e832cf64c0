"""Tiled MLPs give the same losses and gradients, for every number of tiles."""

import pytest
import torch
from torch import nn

from solopo_llamafactory.model import tiling
from solopo_llamafactory.model.tiling import tile_mlps


pytest.importorskip("deepspeed", reason="the tiling is DeepSpeed's")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))

    def forward(self, hidden):
        return hidden + self.mlp(hidden)


@pytest.mark.parametrize("length", [64, 63, 9, 5, 3])  # also fewer tokens than tiles squared, and than tiles
def test_output_and_gradients(length, monkeypatch):
    torch.manual_seed(0)
    plain, tiled = Block(), Block()
    tiled.load_state_dict(plain.state_dict())
    monkeypatch.setattr(tiling, "TILE", 16)
    calls = []
    tiled.mlp.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
    inner = []
    forward = tiled.mlp.forward
    tiled.mlp.forward = lambda hidden: inner.append(hidden.shape[1]) or forward(hidden)
    tile_mlps(tiled, longest_row=64)

    hidden = torch.randn(1, length, 4)
    outputs = []
    for block in (plain, tiled):
        start = hidden.clone().requires_grad_()
        output = block(start)
        output.square().sum().backward()
        outputs.append((output.detach(), start.grad, *(parameter.grad for parameter in block.parameters())))
    for expected, got in zip(*outputs):
        torch.testing.assert_close(got, expected)
    assert len(inner) == 2 * 4  # four tiles, forward and again in the backward pass, whatever the length
    assert max(inner[:4]) <= 16


def test_rows_that_fit_one_tile_are_left_alone():
    block = Block()
    tile_mlps(block, longest_row=tiling.TILE)
    assert "forward" not in block.mlp.__dict__


def test_a_model_without_an_mlp_is_refused():
    with pytest.raises(ValueError, match="no `mlp` in Linear"):
        tile_mlps(nn.Linear(2, 2), longest_row=100)


def test_an_mlp_with_further_inputs_is_refused():
    class Mlp(nn.Module):
        def forward(self, hidden, residual):
            return hidden + residual

    with pytest.raises(ValueError, match="other inputs of Mlp"):
        tile_mlps(nn.ModuleDict({"mlp": Mlp()}), longest_row=100)


def test_experts(monkeypatch):
    """Mixture-of-experts blocks unpack three sizes, and TiledMLP's backward pass has flat tiles."""
    import transformers

    monkeypatch.setattr(tiling, "TILE", 16)
    shape = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape |= {"num_experts": 4, "num_experts_per_tok": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "moe_intermediate_size": 16, "head_dim": 8}
    config = transformers.Qwen3MoeConfig(**shape)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    tokens = torch.randint(50, (1, 40))
    gradients = []
    for tiled in (False, True):
        if tiled:
            tile_mlps(model, longest_row=40)
        model.zero_grad()
        model(tokens).logits.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_the_backward_pass_computes_in_the_dtype_of_the_forward_pass(monkeypatch):
    monkeypatch.setattr(tiling, "TILE", 4)
    block, dtypes = Block(), []
    block.mlp[1].register_forward_pre_hook(lambda module, args: dtypes.append(args[0].dtype))
    tile_mlps(block, longest_row=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = block(torch.randn(1, 8, 4, requires_grad=True))
    output.sum().backward()
    assert dtypes == [torch.bfloat16] * 4


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
def test_a_run_with_tiles_equals_one_without(finetuning_type, train, tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "TILE", 200)
    common = {"finetuning_type": finetuning_type, "lora_target": "all"}
    plain = train(output_dir=str(tmp_path / "plain"), **common)
    tiled = train(solopo_tiled_mlp=True, output_dir=str(tmp_path / "tiled"), **common)
    for key in ("loss", "grad_norm"):
        assert [log[key] for log in tiled] == pytest.approx([log[key] for log in plain], rel=1e-5)
