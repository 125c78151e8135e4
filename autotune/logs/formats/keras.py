"""Keras: an epoch's bar, redrawn, or its one line; the step time is the epoch's mean so far."""

from autotune.logs.format import LogFormat, inside, opening, table

_DONE = r"\b(?P<iteration>\d+)/(?P<bar_total>\d+) (?:\[[=>.]+\]|━+|-) .*?"

FORMAT = LogFormat(
    "keras",
    table(
        opening("s/step", _DONE + r"(?P<step_time_s>{num})s/step"),
        opening("s/step", _DONE + r"(?P<step_time_ms>{num})ms/step"),
        opening("s/step", _DONE + r"(?P<step_time_us>{num})us/step"),
        inside("loss", r" - loss: (?P<loss>{num})"),
        inside("val_loss", r" - val_loss: (?P<val_loss>{num})"),
    ),
    precedence=35,
    lock="bar_total",
)
