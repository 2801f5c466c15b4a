"""A matplotlib figure → SVG that stands in a page: text as text, colours by name, nothing that loads anything."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from sluice.ledger.report.palette import LIGHT

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sluice",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.size": 9.0,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}
_DRAWING = threading.Lock()
"""Held while a figure is made and written: matplotlib's settings are the process's."""
_NAMESPACE = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NAMES = {value: name for name, value in LIGHT.items()}


def drawn(draw: Callable[[], Figure], prefix: str, title: str) -> str:
    """What `draw` makes, as an `svg` element.

    `prefix` keeps its ids apart from other figures' on the page; `title` is for those who listen to it.
    """
    buffer = io.BytesIO()
    with _DRAWING, rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts write it, not ours
        draw().savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in root.findall(f"{_NAMESPACE}metadata"):
        root.remove(metadata)
    _rewrite(root, prefix)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(root: ElementTree.Element, prefix: str) -> None:
    """Tags without namespaces, only ids that something refers to, colours and fonts by the page's."""
    wanted = set(re.findall(r"#([\w.-]+)", " ".join(value for one in root.iter() for value in one.attrib.values())))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        attributes = {}
        for name, value in element.attrib.items():
            if name == "id":
                if value in wanted:
                    attributes["id"] = prefix + value
            elif name == _LINK:
                attributes["href"] = value.replace("#", f"#{prefix}")
            else:
                attributes[name] = _restyled(value, prefix)
        element.attrib = attributes


def _restyled(value: str, prefix: str) -> str:
    value = re.sub(r"url\(#([\w.-]+)\)", rf"url(#{prefix}\1)", value)
    value = re.sub(
        r"#[0-9a-f]{6}", lambda colour: f"var(--{_NAMES[colour[0]]})" if colour[0] in _NAMES else colour[0], value
    )
    return re.sub(r"(font: (?:[\d.]+ )*[\d.]+px)[^;]*", r"\1 var(--sans)", value)
