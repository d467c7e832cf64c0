"""The train tab with SoLoPO in it, built by the host in this process; its events are called by hand."""

import json

import pytest
import yaml


GRADIENTS = ("both", "long", "one_sided", "capped")
REFERENCES = ("matched", "short")


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The host's engine and layout, in an empty working folder."""
    import os

    folder = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("ui"))
    try:
        from llamafactory.webui import interface

        engines = []
        original = interface.Engine

        class Engine(original):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                engines.append(self)

        interface.Engine = Engine
        try:
            blocks = interface.create_ui()
        finally:
            interface.Engine = original
        yield engines[0], blocks
    finally:
        os.chdir(folder)


@pytest.fixture
def form(ui):
    """Values of every input element, as the browser would send them."""
    engine, _ = ui
    values = {element: getattr(element, "value", None) for _, element in engine.manager.get_elem_iter()}

    def fill(**changes) -> dict:
        filled = dict(values)
        common = {"top.lang": "en", "top.model_name": "Custom", "top.model_path": "model", "top.template": "qwen"}
        names = {"train.training_stage": "SoLoPO", "train.dataset": ["pairs"], "train.output_dir": "out"}
        for id, value in (common | names | {f"train.{name}": value for name, value in changes.items()}).items():
            filled[engine.manager.get_elem_by_id(id)] = value
        return filled

    return fill


def arguments_of(engine, data: dict) -> dict:
    return engine.runner._parse_train_args(data)


def test_the_stage_is_in_the_list(ui):
    engine, _ = ui
    choices = engine.manager.get_elem_by_id("train.training_stage").choices
    assert ("SoLoPO", "SoLoPO") in choices and ("DPO", "DPO") in choices


def test_the_accordion_stands_after_the_hosts(ui):
    engine, _ = ui
    accordion, host = (engine.manager.get_elem_by_id(f"train.{name}") for name in ("solopo_tab", "rlhf_tab"))
    children = host.parent.children
    assert children.count(accordion) == 1 and children.index(accordion) == children.index(host) + 1


def test_arguments_of_the_stage(ui, form):
    from solopo_llamafactory.hooks.arguments import SolopoFinetuningArguments

    engine, _ = ui
    arguments = arguments_of(engine, form(solopo_alpha=2.5, solopo_precompute_ref=False))
    assert arguments["stage"] == "solopo"
    ours = {name: arguments[name] for name in arguments if name.startswith("solopo_")}
    ours |= {name: arguments[name] for name in ("stage", "pref_loss", "pref_beta")}
    parsed = SolopoFinetuningArguments(**ours)
    assert (parsed.solopo_alpha, parsed.pref_loss, parsed.pref_beta) == (2.5, "orpo", 0.1)
    assert parsed.solopo_precompute_ref is False and parsed.solopo_tiled_mlp is False
    assert "simpo_gamma" not in arguments
    simpo = arguments_of(engine, form(solopo_pref_loss="simpo", solopo_pref_beta=10, solopo_simpo_gamma=1.5))
    assert (simpo["pref_loss"], simpo["pref_beta"], simpo["simpo_gamma"]) == ("simpo", 10, 1.5)
    extra = json.dumps({"solopo_alpha": 4, "optim": "adamw_torch"})
    assert arguments_of(engine, form(extra_args=extra))["solopo_alpha"] == 4


def test_a_form_that_nobody_touched_says_what_the_arguments_default_to(ui, form):
    """But for the loss, whose preset the form begins with."""
    from dataclasses import fields

    from solopo_llamafactory.hooks.arguments import SolopoArguments, SolopoFinetuningArguments

    engine, _ = ui
    arguments = arguments_of(engine, form())
    parsed = SolopoFinetuningArguments(
        stage="solopo",
        pref_loss=arguments["pref_loss"],
        **{name: value for name, value in arguments.items() if name.startswith("solopo_")},
    )
    defaults = SolopoFinetuningArguments(stage="solopo", pref_loss=arguments["pref_loss"])
    for name in (each.name for each in fields(SolopoArguments)):
        assert getattr(parsed, name) == getattr(defaults, name), name
    assert {"solopo_gradient", "solopo_reference", "solopo_alpha"} <= arguments.keys()


def test_dropdowns_offer_what_the_arguments_allow(ui):
    from typing import get_args, get_type_hints

    from solopo_llamafactory.hooks.arguments import SolopoArguments

    engine, _ = ui
    hints = get_type_hints(SolopoArguments)
    for name in ("solopo_gradient", "solopo_reference", "solopo_align", "solopo_distance", "solopo_overlong"):
        choices = engine.manager.get_elem_by_id(f"train.{name}").choices
        assert [value for _, value in choices] == list(get_args(hints[name]))


def test_fields_follow_the_defaults_of_the_dataclass():
    """Whatever they are, so a default that moves moves in the form."""
    from dataclasses import dataclass

    import gradio as gr

    from solopo_llamafactory.hooks.arguments import SolopoArguments
    from solopo_llamafactory.webui.accordion import create_accordion

    @dataclass
    class Others(SolopoArguments):
        solopo_alpha: str = "auto"
        solopo_gradient: SolopoArguments.__annotations__["solopo_gradient"] = "capped"
        solopo_reference: SolopoArguments.__annotations__["solopo_reference"] = "short"
        solopo_precompute_ref: bool = False

    with gr.Blocks():
        ours = create_accordion(Others)
    assert (ours["solopo_gradient"].value, ours["solopo_reference"].value) == ("capped", "short")
    assert ours["solopo_alpha_auto"].value is True and ours["solopo_alpha"].interactive is False
    assert ours["solopo_precompute_ref"].value is False


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        *(({"solopo_gradient": value}, f"--solopo_gradient {value} ") for value in GRADIENTS),
        *(({"solopo_reference": value}, f"--solopo_reference {value} ") for value in REFERENCES),
        ({"solopo_alpha_auto": True, "solopo_alpha": 2.5}, "--solopo_alpha auto "),
        ({"solopo_alpha_auto": False, "solopo_alpha": 2.5}, "--solopo_alpha 2.5 "),
    ],
)
def test_preview_shows_the_choice(ui, form, changes, shown):
    from solopo_llamafactory.hooks.arguments import SolopoFinetuningArguments

    engine, _ = ui
    (output,) = list(engine.runner.preview_train(form(**changes)))
    (text,) = output.values()
    assert shown in text and "alpha_auto" not in text
    arguments = arguments_of(engine, form(**changes))
    names = [name for name in arguments if name.startswith("solopo_")]
    SolopoFinetuningArguments(stage="solopo", pref_loss="orpo", **{name: arguments[name] for name in names})


def test_the_checkbox_greys_the_slider(ui):
    """On `change`, so that loaded values do it as well."""
    from solopo_llamafactory.webui.accordion import grey_alpha

    engine, blocks = ui
    auto, alpha = (engine.manager.get_elem_by_id(f"train.{name}") for name in ("solopo_alpha_auto", "solopo_alpha"))
    assert alpha.interactive is True
    (event,) = [each for each in blocks.fns.values() if (auto._id, "change") in each.targets]
    assert event.outputs == [alpha] and event.fn is grey_alpha
    for ticked in (True, False):
        changed = grey_alpha(ticked).constructor_args
        assert changed["interactive"] is not ticked and "value" not in changed


def test_preview_shows_what_is_off(ui, form):
    engine, _ = ui
    (shown,) = list(engine.runner.preview_train(form(solopo_precompute_ref=False)))
    (text,) = shown.values()
    assert "--stage solopo" in text and "--solopo_precompute_ref false" in text and "--pref_loss orpo" in text


def test_other_stages_are_as_before(ui, form):
    engine, _ = ui
    arguments = arguments_of(engine, form(training_stage="DPO"))
    assert arguments == type(engine.runner)._parse_train_args.__wrapped__(engine.runner, form(training_stage="DPO"))
    assert arguments["stage"] == "dpo" and not [name for name in arguments if name.startswith("solopo")]
    assert arguments["pref_loss"] == "sigmoid"


def test_data_sets_fit_the_stage(ui, tmp_path):
    from llamafactory.webui.components import train

    info = {
        "pairs": {"file_name": "a", "formatting": "solopo", "ranking": True},
        "pairs_long": {"file_name": "a", "ranking": True},
        "texts": {"file_name": "b"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))

    def names(*stage: str) -> list[str]:
        return [name for name, _ in train.list_datasets(str(tmp_path), *stage).choices]

    assert names("SoLoPO") == ["pairs"] and names("DPO") == names("Reward Modeling") == ["pairs_long"]
    assert names("Supervised Fine-Tuning") == names() == ["texts"]
    assert [name for name, _ in train.list_datasets(str(tmp_path / "none"), "SoLoPO").choices] == []


def test_every_language_has_every_label(ui):
    from solopo_llamafactory.webui.labels import LABELS, LANGUAGES

    engine, _ = ui
    assert LABELS.keys() == {name for name, _ in engine.manager.get_elem_iter() if name.startswith("solopo_")}
    for language in LANGUAGES:
        changed = engine.change_lang(language)
        for name, labels in LABELS.items():
            element = changed[engine.manager.get_elem_by_id(f"train.{name}")]
            assert element.label == labels[language]["label"]
    for name, labels in LABELS.items():
        assert list(labels) == list(LANGUAGES)
        assert name == "solopo_tab" or all(
            all(labels[language][key] for key in ("label", "info")) for language in labels
        )
        texts = [labels[language].get("info", labels[language]["label"]) for language in LANGUAGES]
        assert len(set(texts)) == len(texts)


def test_arguments_are_saved_and_loaded(ui, form, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    engine, _ = ui
    saved = {"solopo_alpha": 2.5, "solopo_alpha_auto": True, "solopo_distance": "huber"}
    saved |= {"solopo_gradient": "capped", "solopo_reference": "short", "solopo_precompute_ref": False}
    engine.runner.save_args(form(config_path="mine.yaml", **saved))
    loaded = engine.runner.load_args("en", "mine.yaml")
    for name, value in (saved | {"training_stage": "SoLoPO"}).items():
        assert loaded[engine.manager.get_elem_by_id(f"train.{name}")] == value


@pytest.mark.parametrize("lacking", [("gradient", "reference", "alpha_auto"), ("",)], ids=["0.2.0", "the host alone"])
def test_a_file_without_our_newer_fields_loads_their_first_values(ui, form, monkeypatch, tmp_path, lacking):
    """Instead of what the form happens to show, which is not what was saved."""
    monkeypatch.chdir(tmp_path)
    engine, _ = ui
    engine.runner.save_args(form(config_path="old.yaml", solopo_alpha=2.5, solopo_alpha_auto=True))
    (file,) = tmp_path.rglob("old.yaml")
    prefixes = tuple(f"train.solopo_{name}" for name in lacking)
    kept = {name: value for name, value in yaml.safe_load(file.read_text()).items() if not name.startswith(prefixes)}
    file.write_text(yaml.safe_dump(kept))

    fields = {name: element for name, element in engine.manager.get_elem_iter() if name.startswith("solopo_")}
    del fields["solopo_tab"]
    loaded = engine.runner.load_args("en", "old.yaml")
    assert fields and all(element in loaded for element in fields.values())
    for name in ("solopo_gradient", "solopo_reference", "solopo_alpha_auto"):
        assert loaded[fields[name]] == fields[name].value
    assert loaded[fields["solopo_alpha_auto"]] is False
    assert loaded[fields["solopo_alpha"]] == (fields["solopo_alpha"].value if lacking == ("",) else 2.5)
    assert len(engine.runner.load_args("en", "none.yaml")) == 1  # a message alone


def test_a_loss_fills_in_the_recipes_values():
    from solopo_llamafactory.webui.accordion import fill_preset

    assert fill_preset("simpo", "Llama-3.1-8B-Instruct") == (1.0, 2.5, 1.375)
    assert len(fill_preset("hinge", None)) == 3


def test_the_plot_shows_the_parts_of_the_loss():
    from llamafactory.webui import control

    logs = [{"current_steps": i, "loss": 3.0 - i, "loss/po": 2.0, "loss/solo_ra": 1.0 - i} for i in range(3)]
    labels = [line.get_label() for line in control.gen_loss_plot(logs).axes[0].lines]
    assert labels == ["original", "smoothed", "preference", "alignment"]
    plain = [{"current_steps": 1, "loss": 1.0}]
    assert len(control.gen_loss_plot(plain).axes[0].lines) == 2


def test_a_training_under_the_web_ui_logs_the_parts(train, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMABOARD_ENABLED", "1")
    monkeypatch.setenv("LLAMABOARD_WORKDIR", str(tmp_path / "output"))
    logs = train()
    lines = [json.loads(line) for line in (tmp_path / "output" / "trainer_log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["loss/po"] for line in steps] == [log["loss/po"] for log in logs]
    assert [line["loss/solo_ra"] for line in steps] == [log["loss/solo_ra"] for log in logs]


def test_an_output_folder_brings_its_values_back(ui, form, monkeypatch, tmp_path):
    """As after a reload of the page: the host reads what a run was started with from its folder."""
    from llamafactory.webui.common import get_save_dir, save_args

    monkeypatch.chdir(tmp_path)
    engine, _ = ui
    folder = tmp_path / get_save_dir("Custom", "full", "out")
    folder.mkdir(parents=True)
    config = engine.runner._build_config_dict(form(solopo_alpha=2.5, solopo_pref_loss="simpo"))
    del config["train.solopo_gradient"]  # a run of an older version
    save_args(str(folder / "llamaboard_config.yaml"), config)
    restored = engine.runner.check_output_dir("en", "Custom", "full", "out")
    assert restored[engine.manager.get_elem_by_id("train.solopo_alpha")] == 2.5
    assert restored[engine.manager.get_elem_by_id("train.solopo_pref_loss")] == "simpo"
    gradient = engine.manager.get_elem_by_id("train.solopo_gradient")
    assert restored[gradient] == gradient.value
    assert gradient not in engine.runner.check_output_dir("en", "Custom", "full", "another")


def test_the_hosts_components_are_all_there(ui):
    import gradio as gr
    from llamafactory.webui.components import create_top, train
    from llamafactory.webui.engine import Engine

    engine, _ = ui
    with gr.Blocks():
        plain = Engine()
        plain.manager.add_elems("top", create_top())
        hosts = train.create_train_tab.__wrapped__(plain)
    ours = [id.removeprefix("train.") for id in engine.manager._id_to_elem if id.startswith("train.")]
    assert [name for name in ours if not name.startswith("solopo_")] == list(hosts)
    for name, element in hosts.items():
        twin = engine.manager.get_elem_by_id(f"train.{name}")
        if name != "training_stage" and hasattr(element, "choices"):
            assert twin.choices == element.choices
        if name not in ("output_dir", "config_path", "current_time"):
            assert getattr(twin, "value", None) == getattr(element, "value", None)


def test_a_host_that_lacks_something_keeps_its_web_ui(monkeypatch, capsys):
    from solopo_llamafactory.hooks import seams

    gone = seams.Seam("llamafactory.webui.runner", "Runner.gone", "a test", "webui:parse_our_arguments")
    placed = []
    monkeypatch.setattr(seams, "WEBUI_SEAMS", (seams.WEBUI_SEAMS[0], gone))
    monkeypatch.setattr(seams, "_placed", set())
    monkeypatch.setattr(seams, "_place", placed.append)
    seams.place_webui_seams()
    warning = capsys.readouterr().err
    assert "cannot show SoLoPO, it lacks: llamafactory.webui.runner.Runner.gone (a test)" in warning
    assert placed == [] and warning.count("\n") == 1
