"""nanotron: every figure rounded and suffixed, ``4.71K`` milliseconds, ``8.91G`` bytes."""

from autotune.logs.format import LogFormat, inside, opening, table

_N = r"{num}[KMGTB]?"

FORMAT = LogFormat(
    "nanotron",
    table(
        opening("consumed_tokens:", r"iteration: *(?P<step>\d+) */ *(?P<total_steps>\d+)"),
        inside("time_per", rf"\btime_per_iteration_ms: *(?P<step_time_ms>{_N})"),
        inside("time_per", rf"elapsed_time_per_iteration_ms: *(?P<step_time_ms>{_N})"),
        inside("tokens_per_sec", rf"tokens_per_sec: *(?P<tokens_per_s>{_N})"),
        inside("per_gpu", rf"tokens_per_sec_per_gpu: *(?P<tokens_per_s_per_gpu>{_N})"),
        inside("batch", rf"global_batch_size: *(?P<global_batch_size>{_N})"),
        inside("loss", rf"\b(?:lm_)?loss: *(?P<loss>{_N})"),
        inside("tflops", rf"model_tflops_per_gpu: *(?P<tflops_per_gpu>{_N})"),
        inside("max_memory", rf"cuda_max_memory_(?:reserved|allocated): *(?P<memory_bytes>{_N})"),
    ),
    precedence=8,
)
