"""DeepSpeed's own lines: throughput timer, pipeline engine, flops profiler, DeepSpeed-Chat.

The timer tells samples/s, counted with the tensor-parallel ranks under AutoTP (twice too high
with two): only the times at which its lines arrive are to be trusted then.
"""

from autotune.logs.format import LogFormat, beside, inside, opening, table

FORMAT = LogFormat(
    "deepspeed",
    table(
        opening("global_step=", r"/global_step=(?P<step>\d+)"),
        opening("SamplesPerSec=", r"\b\d+/(?P<step>\d+), (?:\w*SamplesPerSec=)"),
        opening(
            "iter time",
            r"steps: (?P<step>\d+) loss: (?P<loss>{num}) iter time \(s\): (?P<seconds>{num})",
        ),
        opening("iter latency", r"(?<!/ )\biter latency: +(?P<step_time_s>{num}) s\b"),
        opening("iter latency", r"(?<!/ )\biter latency: +(?P<step_time_ms>{num}) ms\b"),
        opening("iter latency", r"(?<!/ )\biter latency: +(?P<step_time_us>{num}) us\b"),
        opening(
            ", Rank:", r"Epoch: *\d+, Step: *(?P<step>\d+), Rank: *\d+, loss *= *(?P<loss>{num})"
        ),
        opening("|ppo_ep:", r"step: *(?P<step>\d+) ?\|ppo_ep:"),
        inside("SamplesPerSec", r"CurrSamplesPerSec=(?P<samples_per_s>{num})"),
        inside("SamplesPerSec", r"RunningAvgSamplesPerSec=(?P<running_samples_per_s>{num})"),
        inside("SamplesPerSec", r", SamplesPerSec=(?P<samples_per_s>{num})"),
        inside("samples/sec", r"samples/sec: (?P<samples_per_s>{num})"),
        inside("MemAllocated", r"MaxMemAllocated=(?P<memory_gb>{num}) ?GB"),
        inside("MemAllocated", r"MaxMemAllocated=(?P<memory_mb>{num}) ?MB"),
        beside("samples/second", r"\bsamples/second: +(?P<samples_per_s>{num})"),
        beside("Profile Summary", r"Profile Summary at step (?P<step>\d+)"),
        beside("E2E latency", r"E2E latency=(?P<seconds>{num})s"),
        beside("CurSamplesPerSec", r"CurSamplesPerSec=(?P<secondary_samples_per_s>{num})"),
        beside("Model Parameters", r"Samples/sec: (?P<secondary_samples_per_s>{num}), Time/seq"),
        beside("with loss", r"Epoch \d+/\d+ with loss (?P<secondary_loss>{num})"),
        beside("MA ", r"\bMax_MA (?P<memory_gb>{num}) GB"),
    ),
    precedence=30,
)
