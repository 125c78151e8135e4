"""MaxText (JAX): one line a step, rates per device."""

from autotune.logs.format import LogFormat, inside, opening, table

FORMAT = LogFormat(
    "maxtext",
    table(
        opening("completed step:", r"completed step: *(?P<step>\d+), seconds: *(?P<seconds>{num})"),
        inside("FLOP", r"TFLOP/s/device: *(?P<tflops_per_gpu>{num})"),
        inside("okens", r"[Tt]okens/s/device: *(?P<tokens_per_s_per_gpu>{num})"),
        inside("loss", r"\bloss: *(?P<loss>{num})"),
    ),
    precedence=16,
)
