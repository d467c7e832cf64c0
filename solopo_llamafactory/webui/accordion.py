"""The "SoLoPO configurations" accordion: its elements, and their values as training arguments."""

from typing import TYPE_CHECKING, Any

from ..train.objectives import ALGORITHMS
from .presets import preset_of


if TYPE_CHECKING:
    from gradio.components import Component


# Element -> argument, where the element cannot be named as its argument: the host's own accordion has that name.
ARGUMENT_NAMES = {
    "solopo_pref_loss": "pref_loss",
    "solopo_pref_beta": "pref_beta",
    "solopo_simpo_gamma": "simpo_gamma",
}


def create_accordion() -> dict[str, "Component"]:
    """Make the accordion in the layout that is open. Its own key is `solopo_tab`, the others are fields."""
    import gradio as gr

    preset = preset_of("orpo", None)
    with gr.Accordion(open=False) as solopo_tab:
        with gr.Row():
            solopo_pref_loss = gr.Dropdown(choices=list(ALGORITHMS), value="orpo")
            solopo_alpha = gr.Slider(minimum=0, maximum=10, value=preset.alpha, step=0.1)
            solopo_pref_beta = gr.Slider(minimum=0, maximum=10, value=preset.beta, step=0.01)
            solopo_simpo_gamma = gr.Slider(minimum=0, maximum=10, value=preset.gamma, step=0.005)
        with gr.Row():
            solopo_align = gr.Dropdown(choices=["chosen", "both"], value="chosen")
            solopo_distance = gr.Dropdown(choices=["abs", "squared", "huber"], value="abs")
            solopo_overlong = gr.Dropdown(choices=["drop", "error"], value="drop")
            solopo_checkpoint_layers = gr.Textbox(value="auto")
            with gr.Column():
                solopo_precompute_ref = gr.Checkbox(value=True)
                solopo_tiled_mlp = gr.Checkbox(value=False)
    return {
        "solopo_tab": solopo_tab,
        "solopo_pref_loss": solopo_pref_loss,
        "solopo_alpha": solopo_alpha,
        "solopo_pref_beta": solopo_pref_beta,
        "solopo_simpo_gamma": solopo_simpo_gamma,
        "solopo_align": solopo_align,
        "solopo_distance": solopo_distance,
        "solopo_overlong": solopo_overlong,
        "solopo_checkpoint_layers": solopo_checkpoint_layers,
        "solopo_precompute_ref": solopo_precompute_ref,
        "solopo_tiled_mlp": solopo_tiled_mlp,
    }


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
    if arguments["pref_loss"] != "simpo":
        del arguments["simpo_gamma"]
    return {name: "false" if value is False else value for name, value in arguments.items()}
