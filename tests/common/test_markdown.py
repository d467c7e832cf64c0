"""Tables in Markdown."""

from solopo_llamafactory.common.markdown import row, table


def test_a_table():
    assert table(["model", "score"], [["base", "1.0"], ["a|b", "-"]], ["left", "right"]) == (
        "| model | score |\n|---|---:|\n| base | 1.0 |\n| a\\|b | - |"
    )
    assert row(["a", 2.5, ""]) == "| a | 2.5 |  |"
    assert table(["a", "b"], []) == "| a | b |\n|---|---|"
