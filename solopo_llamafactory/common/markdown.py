"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


RULES = {"left": "---", "right": "---:"}


def table(header: Sequence[object], rows: Iterable[Sequence[object]], align: Sequence[str] | None = None) -> str:
    """Return the lines of a table, without a line end after the last.

    Args:
        align: "left" or "right" for each column; all left without it.
    """
    rule = "|".join(RULES[side] for side in align or ["left"] * len(header))
    return "\n".join([row(header), f"|{rule}|", *map(row, rows)])


def row(cells: Sequence[object]) -> str:
    """Return one line, for tables that are printed as they grow; a cell may hold what Markdown ends cells by."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
