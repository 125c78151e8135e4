"""LitGPT: ``iter time`` is one micro batch's, so the step time comes from arrivals."""

from autotune.logs.format import LogFormat, inside, opening, table

FORMAT = LogFormat(
    "litgpt",
    table(
        opening("iter time", r"\biter (?P<iteration>\d+) ?\|? step (?P<step>\d+)"),
        inside("loss", r"loss(?: train)?:? *(?P<loss>{num})"),
        inside("val", r"val: *(?P<val_loss>{num})"),
        inside("iter time", r"iter time: *(?P<iter_time_ms>{num}) ?ms"),
    ),
    precedence=18,
)
