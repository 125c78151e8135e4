"""Plots of a study as functions: each asks one question in its title and answers it in words.

A plot is a plain dict of plotly's figure format, so that a report needs no plotly.py and a
notebook makes a ``plotly.graph_objects.Figure`` of it.
"""

from autotune.plots.configs import best_configs, importance, throughput_and_memory
from autotune.plots.costs import ladder, predicted_and_observed, step_time
from autotune.plots.feasible import feasibility
from autotune.plots.figure import Plot
from autotune.plots.progress import best_so_far, failures, timeline
from autotune.plots.story import Story, story_of

PLOTS = {
    function.__name__: function
    for function in (
        best_so_far,
        ladder,
        step_time,
        throughput_and_memory,
        best_configs,
        importance,
        feasibility,
        predicted_and_observed,
        failures,
        timeline,
    )
}
"""Every plot by name, in the order of a report: ``Story -> Plot``, None without enough data."""

__all__ = ["PLOTS", "Plot", "Story", "story_of", *PLOTS]
