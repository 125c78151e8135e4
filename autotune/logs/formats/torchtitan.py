"""torchtitan: ``tps`` (once ``wps``) is per device, and there is no step time."""

from autotune.logs.format import LogFormat, beside, inside, opening, table

FORMAT = LogFormat(
    "torchtitan",
    table(
        opening(
            "step:",
            r"(?<!validate )\bstep: *(?P<step>{num}) +(?:global_avg_)?loss: *(?P<loss>{num})",
        ),
        inside("memory:", r"memory: *(?P<memory_gib>{num}) ?GiB"),
        inside("ps:", r"\b[tw]ps: *(?P<tokens_per_s_per_gpu>{num})"),
        inside("tflops:", r"tflops: *(?P<tflops_per_gpu>{num})"),
        inside("mfu:", r"mfu: *(?P<mfu_percent>{num})%"),
        beside("validate step:", r"validate step: *(?P<step>{num}) +loss: *(?P<val_loss>{num})"),
        inside("time", r"time(?:_metrics/)?end_to_end\(s\): *(?P<seconds>{num})"),
    ),
    precedence=14,
)
