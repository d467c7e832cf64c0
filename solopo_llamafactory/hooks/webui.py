"""The host's web UI with `stage: solopo` in it: what each seam puts in the place of the host's object.

`create_train_tab` binds its input elements to its events inside itself. Ours are made first and handed out through
`manager.get_base_elems()` while it runs, so that Preview, Start, Save and Load carry them; then the accordion is moved
to its place in the layout.
"""

from functools import wraps
from typing import Any

from .. import STAGE
from ..data.entries import FORMAT
from ..train import metrics
from ..webui.accordion import connect, create_accordion, to_arguments
from ..webui.labels import LABELS
from .arguments import SolopoArguments


STAGE_NAME = "SoLoPO"
LOSS_PARTS = {metrics.LOSS_PO: ("tab:green", "preference"), metrics.LOSS_SOLO_RA: ("tab:orange", "alignment")}


def add_stage(stages: dict[str, str]) -> dict[str, str]:
    """The list of stages: the same object, which other modules have copied, with one more."""
    stages[STAGE_NAME] = STAGE
    return stages


def add_pair_stage(stages: set[str]) -> set[str]:
    """The stages that train on pairs."""
    stages.add(STAGE)
    return stages


def add_labels(locales: dict[str, dict]) -> dict[str, dict]:
    """Labels of our elements."""
    locales.update(LABELS)
    return locales


def list_fitting_datasets(list_datasets):
    """`solopo` data sets under our stage alone, and no others there."""

    @wraps(list_datasets)
    def wrapper(dataset_dir: str | None = None, training_stage: str | None = None):
        import gradio as gr
        from llamafactory.webui.common import DEFAULT_DATA_DIR, load_dataset_info

        stage = {} if training_stage is None else {"training_stage": training_stage}
        dropdown = list_datasets(dataset_dir, **stage)
        info = load_dataset_info(DEFAULT_DATA_DIR if dataset_dir is None else dataset_dir)
        wanted = training_stage == STAGE_NAME
        names = [name for _, name in dropdown.choices if (info[name].get("formatting") == FORMAT) == wanted]
        return gr.Dropdown(choices=names)

    return wrapper


def create_tab_with_accordion(create_train_tab):
    """The train tab with the accordion after the host's RLHF one."""

    @wraps(create_train_tab)
    def wrapper(engine):
        from gradio.context import Context

        manager, layout = engine.manager, Context.block
        ours = create_accordion(SolopoArguments)
        accordion = ours["solopo_tab"]
        fields = {element for element in ours.values() if element is not accordion}
        get_base_elems = manager.get_base_elems
        manager.get_base_elems = lambda: get_base_elems() | fields
        try:
            elements = create_train_tab(engine)
        finally:
            del manager.get_base_elems  # the class's own again

        layout.children.remove(accordion)
        layout.children.insert(layout.children.index(elements["rlhf_tab"]) + 1, accordion)
        connect(ours, elements["training_stage"], STAGE_NAME, manager.get_elem_by_id("top.model_name"))
        return elements | ours

    return wrapper


def _fields(manager) -> dict[str, Any]:
    return {name: manager.get_elem_by_id(f"train.{name}") for name in LABELS if name != "solopo_tab"}


def parse_our_arguments(parse_train_args):
    """`Runner._parse_train_args` with our arguments under our stage; `extra_args` beats them."""

    @wraps(parse_train_args)
    def wrapper(self, data: dict) -> dict[str, Any]:
        arguments = parse_train_args(self, data)
        if arguments["stage"] == STAGE:
            values = {name: data[element] for name, element in _fields(self.manager).items()}
            arguments = to_arguments(values) | arguments
        return arguments

    return wrapper


def load_missing_values(load):
    """`Runner.load_args` or `Runner.check_output_dir`; a field that the file does not know gets its first value."""

    @wraps(load)
    def wrapper(self, *args):
        loaded = load(self, *args)
        if self.manager.get_elem_by_id("train.training_stage") in loaded:  # a file was read
            loaded = {element: element.value for element in _fields(self.manager).values()} | loaded
        return loaded

    return wrapper


def log_loss_parts(on_log):
    """`LogCallback.on_log`, which writes a fixed choice of metrics for the web UI, with the parts of our loss."""

    @wraps(on_log)
    def wrapper(self, args, state, control, **kwargs):
        parts = {name: state.log_history[-1][name] for name in LOSS_PARTS if name in state.log_history[-1]}
        if not parts:
            return on_log(self, args, state, control, **kwargs)
        write = type(self)._write_log
        # Another thread writes, later: it is handed the function as it is now.
        self._write_log = lambda output_dir, logs: write(self, output_dir, logs | parts)
        try:
            return on_log(self, args, state, control, **kwargs)
        finally:
            del self._write_log

    return wrapper


def plot_loss_parts(gen_loss_plot):
    """The plot of a running training with the parts of our loss."""

    @wraps(gen_loss_plot)
    def wrapper(trainer_log: list[dict[str, Any]]):
        figure = gen_loss_plot(trainer_log)
        logs = [log for log in trainer_log if all(name in log for name in LOSS_PARTS)]
        if logs:
            axes = figure.axes[0]
            for name, (color, label) in LOSS_PARTS.items():
                steps = [log["current_steps"] for log in logs]
                axes.plot(steps, [log[name] for log in logs], color=color, label=label)
            axes.legend()
        return figure

    return wrapper
