"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[object], rows: Iterable[Sequence[object]], right: bool = False) -> str:
    """Return a table without a line break at its end.

    Args:
        header: a cell a column.
        rows: cells, in the header's order.
        right: aligns all columns but the first on the right, for figures.
    """
    rule = "|---|" + ("---:|" if right else "---|") * (len(header) - 1)
    return "\n".join([row(header), rule, *map(row, rows)])


def row(cells: Sequence[object]) -> str:
    """Return one line of a table, for those that are printed as they come."""
    texts = [str(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(texts)} |"
