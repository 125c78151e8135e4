"""What every plot has in common: a question, an answer, one look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GOOD, PLAIN, BAD, ACCENT, MUTED = "#1a7f5a", "#3b6fb6", "#c2462d", "#d98e04", "#9aa3ad"
ROW_PX = 26


@dataclass(frozen=True)
class Plot:
    """A question, the sentence that answers it, and a plotly figure as a plain dict."""

    question: str
    answer: str
    figure: dict[str, Any]


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
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return {"data": data, "layout": {**look, **axes, **layout}}
