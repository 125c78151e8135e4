"""fairseq and metaseq: JSON or ``name=value``; words (tokens) and updates a second."""

from autotune.logs.format import LogFormat, inside, opening, table

_IS = r"\"?[:=] *\"?"

FORMAT = LogFormat(
    "fairseq",
    table(
        opening("num_updates", r"num_updates" + _IS + r"(?P<step>\d+).*?\b(?:wall|ups|wps|lr)\b"),
        inside("wps", r"\bwps" + _IS + r"(?P<tokens_per_s>{num})"),
        inside("ups", r"\bups" + _IS + r"(?P<steps_per_s>{num})"),
        inside("loss", r"\b(?:train_)?loss" + _IS + r"(?P<loss>{num})"),
    ),
    precedence=16,
)
