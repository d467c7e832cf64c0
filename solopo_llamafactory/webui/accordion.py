"""The "SoLoPO configurations" accordion: its elements, and their values as training arguments."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from ..train.objectives import ALGORITHMS, AUTO
from .presets import preset_of


if TYPE_CHECKING:
    from gradio.components import Component


# Element -> argument, where the element cannot be named as its argument: the host's own accordion has that name.
ARGUMENT_NAMES = {
    "solopo_pref_loss": "pref_loss",
    "solopo_pref_beta": "pref_beta",
    "solopo_simpo_gamma": "simpo_gamma",
}


def create_accordion(arguments: type) -> dict[str, "Component"]:
    """Make the accordion in the layout that is open. Its own key is `solopo_tab`, the others are fields.

    Args:
        arguments: the dataclass of our training arguments, whose defaults and choices the fields have.
    """
    import gradio as gr

    defaults = {each.name: each.default for each in fields(arguments)}
    hints = get_type_hints(arguments)

    def dropdown(name: str) -> gr.Dropdown:
        return gr.Dropdown(choices=list(get_args(hints[name])), value=defaults[name])

    preset, auto = preset_of("orpo", None), defaults["solopo_alpha"] == AUTO
    with gr.Accordion(open=False) as solopo_tab:
        with gr.Row():
            solopo_pref_loss = gr.Dropdown(choices=list(ALGORITHMS), value="orpo")
            solopo_alpha = gr.Slider(minimum=0, maximum=10, value=preset.alpha, step=0.1, interactive=not auto)
            solopo_alpha_auto = gr.Checkbox(value=auto)
            solopo_pref_beta = gr.Slider(minimum=0, maximum=10, value=preset.beta, step=0.01)
            solopo_simpo_gamma = gr.Slider(minimum=0, maximum=10, value=preset.gamma, step=0.005)
        with gr.Row():
            solopo_gradient = dropdown("solopo_gradient")
            solopo_reference = dropdown("solopo_reference")
            solopo_align = dropdown("solopo_align")
            solopo_distance = dropdown("solopo_distance")
        with gr.Row():
            solopo_overlong = dropdown("solopo_overlong")
            solopo_checkpoint_layers = gr.Textbox(value=defaults["solopo_checkpoint_layers"])
            solopo_precompute_ref = gr.Checkbox(value=defaults["solopo_precompute_ref"])
            solopo_tiled_mlp = gr.Checkbox(value=defaults["solopo_tiled_mlp"])
    return {
        "solopo_tab": solopo_tab,
        "solopo_pref_loss": solopo_pref_loss,
        "solopo_alpha": solopo_alpha,
        "solopo_alpha_auto": solopo_alpha_auto,
        "solopo_pref_beta": solopo_pref_beta,
        "solopo_simpo_gamma": solopo_simpo_gamma,
        "solopo_gradient": solopo_gradient,
        "solopo_reference": solopo_reference,
        "solopo_align": solopo_align,
        "solopo_distance": solopo_distance,
        "solopo_overlong": solopo_overlong,
        "solopo_checkpoint_layers": solopo_checkpoint_layers,
        "solopo_precompute_ref": solopo_precompute_ref,
        "solopo_tiled_mlp": solopo_tiled_mlp,
    }


def connect(ours: dict[str, "Component"], stage: "Component", stage_name: str, model_name: "Component") -> None:
    """Bind the accordion's events: it opens with its stage, a loss fills in a preset, automatic alpha greys the slider."""
    import gradio as gr

    def open_with_stage(name: str) -> gr.Accordion:
        return gr.Accordion(open=name == stage_name)

    alpha, auto, loss = ours["solopo_alpha"], ours["solopo_alpha_auto"], ours["solopo_pref_loss"]
    stage.change(open_with_stage, stage, ours["solopo_tab"], queue=False)
    auto.change(grey_alpha, auto, alpha, queue=False)  # `change`: by loading saved values as well
    # `input`: by the person, not by loading saved values.
    preset = [alpha, ours["solopo_pref_beta"], ours["solopo_simpo_gamma"]]
    loss.input(fill_preset, [loss, model_name], preset, queue=False)


def grey_alpha(auto: bool):
    """The slider of alpha, which cannot be moved while alpha is found automatically."""
    import gradio as gr

    return gr.Slider(interactive=not auto)


def fill_preset(loss: str, model_name: str | None) -> tuple:
    """New values of alpha, beta and gamma after a loss was chosen."""
    import gradio as gr

    return preset_of(loss, model_name) or (gr.skip(),) * 3


def to_arguments(values: dict[str, Any]) -> dict[str, Any]:
    """Training arguments of the elements' values.

    False is written as text: the host leaves arguments that are False out of its commands, and ours are not all False
    by default.
    """
    arguments = {ARGUMENT_NAMES.get(name, name): value for name, value in values.items()}
    if arguments.pop("solopo_alpha_auto"):
        arguments["solopo_alpha"] = AUTO
    if arguments["pref_loss"] != "simpo":
        del arguments["simpo_gamma"]
    return {name: "false" if value is False else value for name, value in arguments.items()}
