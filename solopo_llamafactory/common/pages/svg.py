"""Pictures of a page: inline SVG whose text takes the page's colour, the same bytes for the same numbers."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure


# Told apart with any colour vision, on white and on black; the second curve of a plot is dashed as well.
BLUE, ORANGE, GREY = "#3182bd", "#d95f02", "#8a8f98"
INK = "#010203"  # stands for the page's text colour until the SVG is written
SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def to_svg(name: str, figure: Figure) -> str:
    """The figure as an SVG element whose ids begin with `name`, since a page has all its ids in common."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
