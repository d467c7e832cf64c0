"""The table of seams: every name of LLaMA-Factory that this package replaces for good, and what for.

Two more are replaced elsewhere, because they are no part of the stage: `model.patcher.configure_rope` while a model loads
(`host/model_loading.py`), and the experimental version 1's `get_args`, to refuse the stage there (`join.py`).
A seam is placed once its module is loaded. When the installed host lacks one, `stage: solopo` stops and names it; the
other stages never depend on them.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


@dataclass(frozen=True)
class Seam:
    """A replaceable name in the host.

    Args:
        module: the host module.
        name: the attribute, dotted for a method.
        purpose: what it is needed for, as an error message would say it.
        replace: "module:function" of this package; called with the host's object, it returns ours. Imported late.
        copies: host modules that took a copy of the name by `from ... import`, if they are loaded already.
    """

    module: str
    name: str
    purpose: str
    replace: str
    copies: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.module}.{self.name} ({self.purpose})"


PARSER = "llamafactory.hparams.parser"
TUNER = "llamafactory.train.tuner"
LOADER = "llamafactory.data.loader"
CONSTANTS = "llamafactory.extras.constants"
TRAIN_TAB = "llamafactory.webui.components.train"
RUNNER = "llamafactory.webui.runner"

SEAMS = (
    Seam(PARSER, "_TRAIN_ARGS", "the stage's arguments", "join:widen_arguments"),
    Seam(PARSER, "_INFER_ARGS", "the stage's arguments", "join:widen_arguments"),
    Seam(PARSER, "_EVAL_ARGS", "the stage's arguments", "join:widen_arguments"),
    Seam(PARSER, "_TRAIN_MCA_ARGS", "the stage's arguments", "join:widen_arguments"),
    Seam(PARSER, "_parse_train_args", "refusing arguments that do not fit", "stage:check_parsed_arguments"),
    Seam(PARSER, "get_last_checkpoint", "resuming from complete checkpoints only", "stage:resume_from_complete"),
    Seam(
        PARSER,
        "read_args",
        "the moment to place the seams below",
        "join:place_seams_on_first_use",
        copies=("llamafactory.hparams", TUNER),
    ),
    Seam(TUNER, "get_train_args", "starting the stage", "stage:travel_as_dpo"),
    Seam(TUNER, "run_dpo", "starting the stage", "stage:dispatch"),
    Seam(TUNER, "Worker", "starting the stage in Ray workers", "stage:ray_worker"),
    Seam("llamafactory.data.converter", "register_dataset_converter", "the data format", "data:add_converter"),
    Seam("llamafactory.data.parser", "DatasetAttr.join", "the `long_prompt` column", "data:read_whole_entry"),
    Seam(LOADER, "get_dataset_list", "naming data sets in messages", "data:name_data_sets"),
    Seam(LOADER, "_get_merged_dataset", "matching data formats and stages", "data:check_formats"),
    Seam(LOADER, "_load_single_dataset", "reading JSON files", "data:read_json_files"),
    Seam(LOADER, "align_dataset", "the converter's columns", "data:align_with_features"),
    Seam(LOADER, "_get_dataset_processor", "tokenising both contexts", "data:choose_processor"),
    Seam(LOADER, "_get_preprocessed_dataset", "dropping and counting examples", "data:drop_and_count"),
    Seam("llamafactory.train.callbacks", "LogCallback.on_log", "the web UI's loss plot", "webui:log_loss_parts"),
)
# In the web UI's own process; trainings that it starts are processes with the seams above.
WEBUI_SEAMS = (
    Seam(CONSTANTS, "TRAINING_STAGES", "the stage list", "webui:add_stage"),
    Seam(CONSTANTS, "STAGES_USE_PAIR_DATA", "the stage's kind of data", "webui:add_pair_stage"),
    Seam("llamafactory.webui.locales", "LOCALES", "labels", "webui:add_labels"),
    Seam(TRAIN_TAB, "list_datasets", "data sets that fit the stage", "webui:list_fitting_datasets"),
    Seam(
        TRAIN_TAB,
        "create_train_tab",
        "the accordion",
        "webui:create_tab_with_accordion",
        copies=("llamafactory.webui.components", "llamafactory.webui.interface"),
    ),
    Seam(RUNNER, "Runner._parse_train_args", "the accordion's values", "webui:parse_our_arguments"),
    Seam(RUNNER, "Runner.load_args", "saved values", "webui:load_missing_values"),
    Seam(RUNNER, "Runner.check_output_dir", "a run's values", "webui:load_missing_values"),
    Seam("llamafactory.webui.control", "gen_loss_plot", "the loss plot", "webui:plot_loss_parts"),
)

_placed: set[Seam] = set()
_missing: list[str] = []  # what the installed host lacks, in words


def place_seams(modules: Callable[[str], bool] = lambda name: True) -> None:
    """Place the seams whose module is loaded and accepted by `modules`; those placed before are left alone."""
    for seam in SEAMS:
        if seam not in _placed and seam.module in sys.modules and modules(seam.module):
            _placed.add(seam)
            try:
                _place(seam)
            except Exception as err:  # whatever a changed host raises, its other stages go on
                _missing.append(f"{seam}: {err}")


def require_all_seams() -> None:
    """Load what is missing, place every seam and raise RuntimeError when the host lacks one."""
    for name in dict.fromkeys(seam.module for seam in SEAMS):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as err:
            _missing.append(f"{name}: {err}")
    place_seams()
    try:
        importlib.import_module("..host.imports", __package__)  # names that are used and not replaced
    except ImportError as err:
        _missing.append(str(err))
    if _missing:
        raise RuntimeError(
            f"`stage: solopo` does not fit LLaMA-Factory {version('llamafactory')}, which lacks: "
            f"{'; '.join(dict.fromkeys(_missing))}. Install a version that it supports (llamafactory>=0.9.5,<0.10)."
        )


def place_webui_seams() -> None:
    """Place the web UI's seams, all or, with a warning, none."""
    if _placed.issuperset(WEBUI_SEAMS):
        return
    missing = []
    for seam in WEBUI_SEAMS:
        try:
            importlib.import_module(seam.module)
            _find(seam)
        except (ImportError, AttributeError) as err:
            missing.append(f"{seam}: {err}")
    if missing:
        print(
            f"Warning: the web UI of LLaMA-Factory {version('llamafactory')} cannot show SoLoPO, it lacks: "
            f"{'; '.join(missing)}.",
            file=sys.stderr,
        )
        return
    for seam in WEBUI_SEAMS:
        _placed.add(seam)
        _place(seam)


def _find(seam: Seam) -> tuple[Any, str]:
    """Where the name lives, and its last part.

    Raises:
        AttributeError: when it is not there.
    """
    *path, name = seam.name.split(".")
    owner: Any = sys.modules[seam.module]
    for part in path:
        owner = getattr(owner, part)
    getattr(owner, name)
    return owner, name


def _place(seam: Seam) -> None:
    owner, name = _find(seam)
    original = getattr(owner, name)
    module, function = seam.replace.split(":")
    replacement = getattr(importlib.import_module(f"{__package__}.{module}"), function)(original)
    setattr(owner, name, replacement)
    for copy in seam.copies:
        if getattr(sys.modules.get(copy), name, None) is original:
            setattr(sys.modules[copy], name, replacement)
