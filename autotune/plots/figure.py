"""What every plot has in common: a question, an answer, one look."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.config import SHORT_NAMES

if TYPE_CHECKING:
    import plotly.graph_objects as go

GOOD, PLAIN, BAD, ACCENT, MUTED = "#1a7f5a", "#3b6fb6", "#c2462d", "#d98e04", "#9aa3ad"
ROW_PX = 26
WRAP = 90
BAR_PX = 34
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


@dataclass(frozen=True)
class Plot:
    """A question, the sentence that answers it, and a plotly figure as a plain dict."""

    question: str
    answer: str
    figure: dict[str, Any]

    def titled(self) -> go.Figure:
        """A figure that stands alone: the question above it, the answer in small below."""
        import plotly.graph_objects as go

        said = "<br>".join(textwrap.wrap(self.answer, WRAP))
        title = {"text": f"{self.question}<br><sup>{said}</sup>", "x": 0, "xanchor": "left",
                 "yref": "container", "y": 1, "yanchor": "top", "pad": {"t": BAR_PX},
                 "font": {"size": 17}}  # fmt: skip
        top = BAR_PX + 80 + 16 * said.count("<br>")
        return go.Figure(self.figure).update_layout(
            title=title, height=None, margin={"t": top}, template={}
        )


def short_names(names: Iterable[str]) -> str:
    """Parameters as people call them: tp, pp, recompute."""
    return ", ".join(SHORT_NAMES.get(name, name) for name in names)


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1, 2, 5, 10, ...; a plain one where it would have few."""
    low, high = min(values), max(values)
    if low <= 0 or high < 4 * low:
        return {}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {
        "type": "log",
        "tickvals": [step * 10.0**decade for decade in decades for step in (1, 2, 5)],
    }


def figure(
    data: list[dict[str, Any]], x: str = "", y: str = "", height: int = 380, **layout: Any
) -> dict[str, Any]:
    """A figure with titled axes in the common look; ``layout`` is merged over it, axis by axis."""
    axes: dict[str, dict[str, Any]] = {}
    for name, title in (("xaxis", x), ("yaxis", y)):
        axes[name] = {
            "title": {"text": title},
            "automargin": True,
            "gridcolor": "#e8ebee",
            "zeroline": False,
            **layout.pop(name, {}),
        }
    look = {
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#24292f"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": LEGEND,
        "hovermode": "closest",
    }
    return {"data": data, "layout": {**look, **axes, **layout}}
