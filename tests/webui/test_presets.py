"""What choosing a loss fills in, and what it leaves as it was, is what the recipes have."""

import gradio as gr
import pytest
import yaml

from solopo_llamafactory.hooks.arguments import SolopoArguments
from solopo_llamafactory.webui.accordion import create_accordion
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


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*_solo_*.yaml")), ids=lambda path: path.stem)
def test_what_a_preset_leaves_begins_as_the_recipes_have_it(path):
    """A preset names no gradient and no reference: the form's first values are the recipes'."""
    recipe = yaml.safe_load(path.read_text())
    with gr.Blocks():
        ours = create_accordion(SolopoArguments)
    left = ours.keys() & recipe.keys() - {"solopo_alpha"}
    assert "solopo_gradient" in left and ("solopo_reference" in left) == path.stem.endswith("dpo")
    assert {name: ours[name].value for name in left} == {name: recipe[name] for name in left}


def test_other_models_and_losses():
    assert preset_of("orpo", None) == preset_of("orpo", "Custom") == PRESETS["qwen"]["orpo"]
    assert preset_of("hinge", "Qwen2.5-7B") is None
