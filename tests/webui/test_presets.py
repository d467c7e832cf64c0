"""What choosing a loss fills in is what the recipes have."""

import pytest
import yaml

from solopo_llamafactory.webui.presets import PRESETS, preset_of
from tests.helpers.runs import ROOT


@pytest.mark.parametrize("family", PRESETS)
@pytest.mark.parametrize(("loss", "name"), [("sigmoid", "dpo"), ("orpo", "orpo"), ("simpo", "simpo")])
def test_presets_are_the_recipes(family, loss, name):
    recipe = yaml.safe_load((ROOT / f"recipes/{family}_solo_{name}.yaml").read_text())
    preset = preset_of(loss, {"qwen": "Qwen2.5-7B-Instruct", "llama": "Llama-3.1-8B-Instruct"}[family])
    assert recipe["pref_loss"] == loss
    assert (preset.alpha, preset.beta) == (recipe["solopo_alpha"], recipe["pref_beta"])
    if loss == "simpo":
        assert preset.gamma == recipe["simpo_gamma"]


def test_other_models_and_losses():
    assert preset_of("orpo", None) == preset_of("orpo", "Custom") == PRESETS["qwen"]["orpo"]
    assert preset_of("hinge", "Qwen2.5-7B") is None
