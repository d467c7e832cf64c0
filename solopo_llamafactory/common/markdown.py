"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


RULES = {"left": "---", "right": "---:"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: Sequence[str] | None = None) -> str:
    """The lines of a table, without a line end after the last; a cell may hold what Markdown ends cells by.

    Args:
        align: "left" or "right" for each column; all left without it.
    """
    rule = "|".join(RULES[side] for side in align or ["left"] * len(header))
    return "\n".join([_line(header), f"|{rule}|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
