"""Tables in Markdown: their lines, and cells that hold the sign of a column."""

from solopo_llamafactory.common.markdown import row, table


def test_table():
    assert table(["a", "b"], [[1, "x|y"], ["", 2.5]]) == "| a | b |\n|---|---|\n| 1 | x\\|y |\n|  | 2.5 |"
    assert table(["a", "b", "c"], [], right=True) == "| a | b | c |\n|---|---:|---:|"
    assert row(["a"]) == "| a |"
