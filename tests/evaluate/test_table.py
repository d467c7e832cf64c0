"""The scores as Markdown."""

from solopo_llamafactory.evaluate.scoring import score
from solopo_llamafactory.evaluate.table import listed
from tests.helpers.made_up import make_run


def test_the_table_has_a_row_a_model(tmp_path):
    outcomes = {"base": ["++--"] * 2, "a b": ["++~~"] * 2}
    score(make_run(tmp_path / "run", outcomes, short={"4000": 5}))
    table = (tmp_path / "run/table.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == rows[4] == "| model | 1,000 | 4,000 | all |" and rows[1] == "|---|---|---|---|"
    assert [row.split(" | ")[0] for row in rows] == ["| model", "|---|---|---|---|", "| base", "| a b"] + [
        "| model",
        "|---|---|---|---|",
        "| a b",
    ]
    assert rows[2].endswith("| 50.0 [50.0, 50.0] |")
    assert "2 questions of MuSiQue (CC BY 4.0)" in table and "Paired difference to base" in table
    assert "- a b: 4 answers (50.0%) were cut off at max_new_tokens" in table
    assert "- 5 contexts of 4,000 tokens stay well below" in table


def test_listed():
    assert [listed(numbers) for numbers in ([1000], [1, 2], [1, 2, 3000])] == ["1,000", "1 and 2", "1, 2 and 3,000"]
