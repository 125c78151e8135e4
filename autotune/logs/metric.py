"""How ``framework: command`` says where the figures are: a pattern, or a format's name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from autotune.errors import BadInput
from autotune.logs.format import LinePattern, LogFormat
from autotune.logs.formats import get_format, known_formats

MAX_PATTERN = 2000


def format_from_metric(metric: Mapping[str, str]) -> LogFormat:
    """The format of a space's ``metric``: ``{pattern: regex}`` or ``{format: name}``.

    Named groups of the pattern are StepSample figures (``tokens_per_s``, ``step_time_s``,
    ``step_time_ms``, ``samples_per_s``, ``loss``, ``memory_gib``, ...), any other name lands
    in ``extra``; each line that matches is one step. BadInput on a pattern that is no regular
    expression or names no group, on an unknown format, and on any other key.
    """
    unknown = sorted(set(metric) - {"pattern", "format"})
    if unknown or len(metric) != 1:
        what = f"unknown key {unknown[0]!r}" if unknown else f"{len(metric)} keys"
        raise BadInput(
            f"metric: {what}. Give {{pattern: regex}} or {{format: {'|'.join(known_formats())}}}."
        )
    if "format" in metric:
        return get_format(metric["format"])
    return _from_pattern(metric["pattern"])


def _from_pattern(pattern: str) -> LogFormat:
    if len(pattern) > MAX_PATTERN:
        raise BadInput(f"metric.pattern: {len(pattern)} characters; at most {MAX_PATTERN}.")
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise BadInput(f"metric.pattern: no regular expression: {error}.") from error
    if not groups:
        raise BadInput(
            "metric.pattern: names no group; write the figure as (?P<tokens_per_s>[0-9.]+)."
        )
    line = LinePattern("", pattern, opens=True)
    return LogFormat("pattern", (line,), bare_rank=False, by_user=True)
