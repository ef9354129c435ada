"""From a matplotlib figure to an SVG that can stand inside a page: themed, named, and free of outside links."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with; in the page they become variables, so that a figure follows the theme.
INK, MUTED, RULE, CARD = "#010101", "#020202", "#030303", "#040404"
FORGET, RETAIN, ACCENT, TARGET = "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    CARD: "var(--card)",
    FORGET: "var(--forget)",
    RETAIN: "var(--retain)",
    ACCENT: "var(--accent)",
    TARGET: "var(--target)",
}
_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, sharp and readable by machines
    "svg.hashsalt": "amnesty",
    "text.parse_math": False,  # names come from files; a dollar sign is a dollar sign
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same layout everywhere
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "figure.dpi": 72,
    "savefig.facecolor": "none",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with the page's style, whatever the user's own settings of matplotlib are."""
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the browser has the glyph
        yield


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element; the same figure and name give the same bytes.

    `name` prefixes every id, so that several figures can share a page; it must be a plain word. `title` and
    `description` are read out by screen readers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    inner = text[text.index("<svg") :]
    viewbox = re.search(r'viewBox="[^"]*"', inner)
    assert viewbox is not None
    inner = inner[inner.index(">") + 1 : inner.rindex("</svg>")]
    inner = re.sub(r"<style.*?</style>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<!--.*?-->\n?", "", inner, flags=re.DOTALL)
    inner = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", inner)
    inner = inner.replace("xlink:href", "href")
    inner = re.sub("|".join(_VARIABLES), lambda match: _VARIABLES[match[0]], inner)
    return (
        f'<svg {viewbox[0]} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{inner}</svg>"
    )
