"""Links of the pages lead to files that are there."""

import re

import pytest

from tests.helpers.runs import ROOT


FOLDERS = ("", "benchmarks", "data", "docs", "experiments", "recipes")
PAGES = [path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md" if folder else "*.md")]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_paths_of_the_architecture_are_there():
    """Every file that a table or a list of docs/architecture.md names, below the package or the repository."""
    named = re.findall(r"`([\w/]+\.py|[\w/]+/)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    bases = (ROOT, ROOT / "solopo_llamafactory", ROOT / "solopo_llamafactory" / "data")
    assert [name for name in named if not any((base / name).exists() for base in bases)] == []
