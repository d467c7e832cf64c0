"""The page and the pictures: what they show is what was scored, safely, and they stand alone."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from solopo_llamafactory.evaluate.page import verdict, write_page
from solopo_llamafactory.evaluate.plots import length_labels
from solopo_llamafactory.evaluate.scoring import score
from tests.helpers.html_page import Page, shown
from tests.helpers.made_up import make_run, simulate


SCRIPT = "<script>alert('x')</script> & <i>sloped</i> {{ 7 * 7 }}\n"


def write(folder, outcomes: dict, windows: dict | None = None, **settings) -> tuple[dict, Page]:
    args = make_run(folder, outcomes, windows, **settings)
    results = score(args)
    write_page(args, results)
    return results, Page(folder / "report.html")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    lengths, depths = [1000, 4000, 16000], [0.0, 1.0]
    outcomes = {
        "base": [*simulate([0.6] * 6, 20, 0), "------", "++++++"],
        "solo": [*["+++++-"] * 20, "------", "++++++"],
    }
    outcomes["small"] = ["++--??"] * 22
    results, page = write(
        folder, outcomes, {"small": 8000}, questions=22, hops=[2, 3] * 11, text=SCRIPT, lengths=lengths, depths=depths
    )
    return folder, results, page


def test_the_scores_are_on_the_page(written):
    _, results, page = written
    text = shown(page)
    for model in results["models"].values():
        for group in (
            model["all"],
            *model["by_hops"].values(),
            *model["by_depth"].values(),
            model["by_length"]["1000"],
        ):
            assert f"{group['score']:.1f} [{group['low']:.1f}, {group['high']:.1f}]" in text
    group = results["models"]["solo"]["difference"]["all"]
    assert f"{group['score']:+.1f} [{group['low']:+.1f}, {group['high']:+.1f}]" in text
    for words in ("22 questions of MuSiQue (CC BY 4.0)", "1,000, 4,000 and 16,000 tokens", "16,000 tokens is beyond"):
        assert words in text


def test_a_heat_map_has_each_cells_number(written):
    _, results, page = written
    for name, model in results["models"].items():
        figure = re.search(rf"<figure><figcaption><b>{name}</b></figcaption>(.*?)</figure>", page.source, re.DOTALL)[1]
        numbers = re.findall(r">(\d+)</text>", figure)
        assert numbers == [f"{cell['score']:.0f}" for cell in model["cells"] if cell["score"] is not None]
        assert ("<pattern" in figure) == (name == "small")  # hatched beyond its window
    figures = re.findall(r'<b>(\w+)</b> <span class="soft">minus base</span>', page.source)
    assert figures == ["solo", "small"]


def test_texts_of_questions_and_answers_stay_text(written):
    _, _, page = written
    assert "script" not in page.tags
    assert page.tags.count("i") == page.source.count("<i>") == page.source.count("</i>")
    text = "".join(page.text)
    assert text.count(SCRIPT.strip()) > 3 and "sloped</i>" in text and "{{ 7 * 7 }}" in text


def test_examples_are_right_and_wrong(written):
    _, _, page = written
    kinds = re.findall(r'class="answer (right|wrong)"', page.source)
    assert {"right", "wrong"} == set(kinds)
    questions = re.findall(r"<summary><b>(Where was \d+ born)", page.source)
    assert len(questions) == len(set(questions)) >= 3


def test_the_page_needs_nothing_else(written):
    _, _, page = written
    outside = [link for link in page.links if not link[1].startswith(("#", "data:image/png;base64,"))]
    assert outside == [("a", "https://creativecommons.org/licenses/by/4.0/")]
    assert not {"link", "iframe", "img"} & set(page.tags) and "@import" not in page.source
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page.source)) <= set(page.ids)
    assert page.tags.count("svg") == 1 + (1 + 3) + (1 + 2)


def test_the_same_scores_give_the_same_page(written, tmp_path):
    folder, results, page = written
    args = make_run(tmp_path / "run", {name: ["++++++"] for name in results["models"]}, questions=1)
    args.output = str(folder)
    write_page(args, results)
    assert (folder / "report.html").read_text() == page.source


def test_pictures_are_files(written):
    folder, _, _ = written
    for name in ("curves.png", "heatmaps.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(10**6)) > 10
    with Image.open(folder / "heatmaps.png") as picture:
        assert picture.width > 3 * picture.height  # side by side
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    "outcomes, windows, words",
    [
        ({"base": ["+", "-"]}, {}, "50.0 [0.0, 100.0]"),
        ({"base": ["?", "?"]}, {}, "No answers yet"),
        ({"base": ["?", "?"], "solo": ["+", "?"]}, {"base": 100}, "No length is within the window of every model"),
        ({"base": ["+", "+"], "solo": ["?", "?"]}, {}, "2 of 4 answers are missing (solo 2)"),
    ],
)
def test_one_length_one_depth_and_hardly_an_answer(tmp_path, outcomes, windows, words):
    _, page = write(tmp_path / "run", outcomes, windows, lengths=[4096], depths=[0.5])
    assert words in shown(page)
    assert ("Where models differ" in page.source) == (len(outcomes) == 2)


@pytest.mark.slow
def test_ten_models_at_eight_lengths(tmp_path):
    lengths = [1024 * 2**i for i in range(8)]
    outcomes = {f"a-model-with-a-name-of-some-length-{i}": simulate([0.6] * 16, 5, i) for i in range(10)}
    _, page = write(tmp_path / "run", outcomes, questions=5, lengths=lengths, depths=[0.0, 1.0])
    assert page.tags.count("svg") == 1 + (1 + 10) + (1 + 9)
    for name in outcomes:
        assert page.source.count(name) > 5


def test_labels_of_lengths_tell_them_apart():
    assert length_labels([256, 1000, 4096, 131072]) == ["256", "1K", "4K", "128K"]
    assert length_labels([1000, 1024]) == ["1,000", "1,024"]
    assert length_labels([1500]) == ["1,500"]


def test_a_verdict_needs_an_interval_on_one_side_of_zero():
    groups = [
        {"score": 3, "low": 1, "high": 5},
        {"score": -3, "low": -5, "high": -1},
        {"score": 3, "low": -1, "high": 7},
    ]
    assert [verdict(group) for group in [*groups, None]] == ["better", "worse", "no clear difference", ""]


def test_scores_need_no_plotting_and_no_torch():
    code = (
        "import sys, solopo_llamafactory.evaluate.scoring, solopo_llamafactory.evaluate.page;"
        "print({'matplotlib', 'torch', 'llamafactory'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
