"""MLPs computed tile by tile: what they hold for a moment, several times the hidden states, shrinks to one tile.

The tiling is DeepSpeed's `TiledMLP` (arXiv 2506.13996), which computes each tile again in the backward pass.
"""

import inspect
import math
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..host.log import logger


TILE = 8192  # tokens


def tile_mlps(model: nn.Module, longest_row: int) -> None:
    """Let every module named `mlp` work in tiles of at most `TILE` tokens.

    Sharded weights are gathered tile by tile, so all processes must have the same number of tiles at every step: it
    follows from the longest row to come and is the same for shorter rows.

    Raises:
        ValueError: when the model has no such module, or one with further inputs.
    """
    mlps = [module for name, module in model.named_modules() if name.rpartition(".")[-1] == "mlp"]
    if not mlps:
        raise ValueError(f"`solopo_tiled_mlp` finds no `mlp` in {type(model).__name__}: remove the argument.")
    for mlp in mlps:
        if len(inspect.signature(mlp.forward).parameters) != 1:
            raise ValueError(
                f"`solopo_tiled_mlp` does not know the other inputs of {type(mlp).__name__}: remove the argument."
            )
    num_tiles = math.ceil(longest_row / TILE)
    if num_tiles > 1:
        for mlp in mlps:
            mlp.forward = MethodType(_tiled(mlp.forward, num_tiles), mlp)
        logger.info_rank0(f"MLPs work in {num_tiles} tiles for rows of up to {longest_row} tokens.")


def _tiled(forward, num_tiles: int):
    def tiled_forward(self: nn.Module, hidden_BTH: Tensor) -> Tensor:
        from deepspeed.runtime.sequence_parallel.ulysses_sp import TiledMLP

        # The backward pass computes tiles again, flat, and outside of any autocast.
        device = hidden_BTH.device.type
        autocast = {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}

        def one_tile(_, tile: Tensor) -> Tensor:
            with torch.autocast(device, **autocast):
                return forward(tile) if tile.dim() == 3 else forward(tile[None])[0]

        length = hidden_BTH.shape[1]
        # torch.chunk makes fewer tiles than asked for where a tile would be shorter than their number.
        padding = -length % num_tiles if length < num_tiles**2 else 0
        padded_BTH = F.pad(hidden_BTH, (0, 0, 0, padding)) if padding else hidden_BTH
        return TiledMLP.apply(one_tile, self, padded_BTH, num_tiles, list(self.parameters()))[:, :length]

    return tiled_forward
