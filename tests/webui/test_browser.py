"""The web UI in a real browser, from an empty form to a finished run, as a person uses it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from tests.helpers.runs import ROOT, command_environment, make_rows, write_dataset


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
MINUTE = 60_000  # milliseconds
# Where the README's pictures are made: SOLOPO_SCREENSHOTS=docs
SCREENSHOTS = os.environ.get("SOLOPO_SCREENSHOTS")


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_qwen2):
    """`llamafactory-cli webui` in a folder of its own; yields (address, folder)."""
    folder = tmp_path_factory.mktemp("webui")
    write_dataset(folder / "data", make_rows(16))
    shutil.copytree(tiny_qwen2, folder / "tiny_qwen2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = command_environment(
        GRADIO_SERVER_NAME="127.0.0.1",
        GRADIO_SERVER_PORT=str(port),
        GRADIO_ANALYTICS_ENABLED="False",
        BROWSER="true",  # the host would open one
        NO_PROXY="127.0.0.1,localhost",
    )
    log = folder / "webui.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["llamafactory-cli", "webui"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        yield address, folder
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def page(server):
    """A browser's page with the form on it; labels come with the first event."""
    address, _ = server
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(MINUTE / 2)
        page.goto(address)
        page.get_by_label("Model name").first.wait_for()
        yield page
        browser.close()


def field(page, label: str):
    """The field that is seen under this label; other tabs have some of the same name."""
    return page.get_by_label(re.compile(rf"^\s*{label}")).locator("visible=true").first


def choose(page, label: str, option: str) -> None:
    """Pick from a dropdown."""
    field(page, label).click()
    page.get_by_role("option", name=option, exact=True).first.click()


def write(page, label: str, text: str) -> None:
    """Fill in a text or number field, and leave it."""
    field(page, label).fill(text)
    field(page, label).press("Tab")


def click(page, name: str) -> None:
    page.get_by_role("button", name=name).first.click()


def fill_in(page, output_dir: str) -> None:
    """What a person fills in for a short run on the CPU."""
    choose(page, "Model name", "Custom")
    write(page, "Model path", "tiny_qwen2")
    choose(page, "Finetuning method", "full")
    choose(page, "Chat template", "qwen")
    choose(page, "Compute type", "fp32")
    click(page, "Extra configurations")
    extra = {"optim": "adamw_torch", "max_steps": 6, "logging_steps": 1, "use_cpu": True, "save_strategy": "no"}
    write(page, "Extra arguments", json.dumps(extra))
    click(page, "Extra configurations")
    field(page, "Output dir").fill(output_dir)
    field(page, "Output dir").press("Enter")


def datasets(page) -> list[str]:
    """What the Dataset list offers."""
    field(page, "Dataset").click()
    page.get_by_role("option").first.wait_for()
    page.wait_for_timeout(500)
    names = page.get_by_role("option").all_inner_texts()
    page.keyboard.press("Escape")
    return [name.strip().lstrip("✓ ") for name in names]


def command(page) -> str:
    """The previewed command."""
    click(page, "Preview command")
    box = page.locator("code", has_text="llamafactory-cli train").first
    box.wait_for()
    page.wait_for_timeout(1000)  # an earlier command may be there
    return box.inner_text()


def wait_for_alpha(page, state: str) -> None:
    """Until the slider of alpha is "enabled" or "disabled", in its number and in its bar."""
    for kind in ("number", "range"):
        slider = page.locator(f"input[type={kind}][aria-label*='Alpha' i]").locator("visible=true").first
        getattr(sync_api.expect(slider), f"to_be_{state}")(timeout=MINUTE / 4)


def choose_data(page, name: str) -> None:
    """Pick a data set by typing: the list is made anew whenever the field gets the focus."""
    field(page, "Dataset").fill(name)
    field(page, "Dataset").press("Enter")
    page.keyboard.press("Escape")


def take_picture(page, name: str, first: str, last) -> None:
    """A picture from the first text down to the last element."""
    if SCREENSHOTS:
        page.wait_for_timeout(8000)  # until notes have gone
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        top = page.get_by_text(first).locator("visible=true").first.bounding_box()["y"] - 20
        box = last.bounding_box()
        clip = {"x": 0, "y": top, "width": 1280, "height": box["y"] + box["height"] + 20 - top}
        page.screenshot(path=ROOT / SCREENSHOTS / name, full_page=True, clip=clip)


def test_from_an_empty_form_to_a_finished_run(page, server):
    _, folder = server
    fill_in(page, "first")
    choose(page, "Stage", "SoLoPO")
    accordion = page.get_by_text("SoLoPO configurations")
    accordion.wait_for()
    field(page, "Loss type").wait_for()  # it opens with the stage
    assert datasets(page) == ["pairs"]
    choose_data(page, "pairs")

    text = command(page)
    for argument in ("--stage solopo", "--pref_loss orpo", "--solopo_alpha 1", "--solopo_align chosen"):
        assert argument in text
    assert "--solopo_gradient " in text and "--solopo_reference " in text
    assert "--dataset pairs " in text and "--solopo_precompute_ref True" in text
    take_picture(page, "webui_form.png", "Language", page.get_by_role("button", name="Start"))

    choose(page, "Alignment gradient", "capped")
    field(page, "Find alpha automatically").check()
    wait_for_alpha(page, "disabled")
    click(page, "Save arguments")
    page.get_by_text("Arguments have been saved at").first.wait_for()

    choose(page, "Language", "zh")
    page.get_by_text("SoLoPO 参数设置").wait_for()
    choose(page, "语言", "en")
    page.get_by_text("SoLoPO configurations").wait_for()
    wait_for_alpha(page, "disabled")

    click(page, "Start")
    page.get_by_text("Finished.").first.wait_for(timeout=4 * MINUTE)
    plot = page.locator("img[alt*='plot' i], [data-testid='matplotlib'] img").first
    plot.wait_for()
    take_picture(page, "webui_finished.png", "Preview command", plot)
    (log,) = folder.glob("saves/Custom/full/first/trainer_log.jsonl")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert len([step for step in steps if "loss/po" in step and "loss/solo_ra" in step]) == 6
    started = (log.parent / "training_args.yaml").read_text()
    assert "solopo_alpha: auto\n" in started and "solopo_gradient: capped\n" in started


def test_saved_arguments_come_back_and_dpo_is_as_before(page):
    fill_in(page, "second")
    choose(page, "Stage", "SoLoPO")
    choose_data(page, "pairs")
    choose(page, "Loss type", "simpo")
    page.wait_for_timeout(1000)
    text = command(page)
    assert "--pref_loss simpo" in text and "--pref_beta 2.5" in text and "--simpo_gamma 1.375" in text
    choose(page, "Reference context", "matched")
    field(page, "Find alpha automatically").check()
    field(page, "Config path").fill("simpo.yaml")
    field(page, "Config path").press("Enter")
    click(page, "Save arguments")
    page.get_by_text("Arguments have been saved at").first.wait_for()

    choose(page, "Loss type", "orpo")
    choose(page, "Reference context", "short")
    field(page, "Find alpha automatically").uncheck()
    wait_for_alpha(page, "enabled")
    page.wait_for_timeout(1000)
    text = command(page)
    assert "--pref_loss orpo" in text and "--solopo_reference short" in text and "--solopo_alpha 1" in text
    click(page, "Load arguments")
    page.get_by_text("Arguments have been restored.").first.wait_for()
    wait_for_alpha(page, "disabled")
    text = command(page)
    assert "--stage solopo" in text and "--pref_loss simpo" in text and "--simpo_gamma 1.375" in text
    assert "--solopo_reference matched" in text and "--solopo_alpha auto" in text

    choose(page, "Stage", "DPO")  # the host empties the list of data sets with the stage
    page.wait_for_timeout(1000)
    assert datasets(page) == ["pairs_short", "pairs_long"]
    choose_data(page, "pairs_long")
    text = command(page)
    assert "--stage dpo" in text and "--pref_loss sigmoid" in text and "solopo" not in text
