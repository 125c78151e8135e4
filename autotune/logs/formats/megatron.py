"""Megatron-LM and its many forks: one line a log interval, fields set apart by bars.

Forks print seconds instead of milliseconds, underscores and ``=``, other names for the rate a
GPU reaches; AMD's prints ``this/average``. Follows ``training_log`` of megatron/training.
"""

from autotune.logs.format import LogFormat, beside, inside, opening, table

_IS = r"[ _]*[:=]? *"
_TIME = r"time[ _]per[ _]iteration[ _]*"
_PER_GPU = r"(?:tokens?[ _]*(?:/|per)[ _]*(?:sec(?:ond)?|s)[ _]*(?:/|per)[ _]*(?:gpu|GPU|device)"
_PER_GPU += r"|tokens[ _](?:/|per)[ _](?:gpu|GPU)[ _](?:/|per)[ _]second|tokens[ _]per[ _]GPU)"

FORMAT = LogFormat(
    "megatron",
    table(
        opening(
            "iteration", r"\biteration *[:=]? *(?P<step>[\d,]+) */ *(?P<total_steps>[\d,]+) *\|"
        ),
        inside(
            "time", _TIME + r"\(?(?:ms|msec|milliseconds)\)?" + _IS + r"(?P<step_time_ms>{num})"
        ),
        inside("time", _TIME + r"\(?(?:s|sec|seconds)\)?" + _IS + r"(?P<step_time_s>{num})"),
        inside(
            "loss",
            r"\|\s*(?:lm|LM|total|train|reduced_train)?[ _-]*loss" + _IS + r"(?P<loss>{num})",
        ),
        inside("batch", r"global[ _]batch[ _]size" + _IS + r"(?P<global_batch_size>{num})"),
        inside("second", r"[Ss]amples?[ _]per[ _]second" + _IS + r"(?P<samples_per_s>{num})"),
        inside("s/sec", r"samples?/sec(?:ond)?" + _IS + r"(?P<samples_per_s>{num})"),
        inside("okens", _PER_GPU + r"[^|:=]*" + _IS + r"(?P<tokens_per_s_per_gpu>{num}[KMB]?)"),
        inside("okens", r"tokens[ _](?:per[ _]second|/sec)" + _IS + r"(?P<tokens_per_s>{num})"),
        inside(
            "(token",
            r"throughput \(tokens?/s[^|]*?GPU\)" + _IS + r"(?P<tokens_per_s_per_gpu>{num}[KMB]?)",
        ),
        inside("FLOP", r"T(?:era)?FLOP[^|:=]*" + _IS + r"(?P<tflops_per_gpu>{num})"),
        inside("flop", r"t(?:era)?flop[^|:=]*" + _IS + r"(?P<tflops_per_gpu>{num})"),
        inside("flops", r"flops per GPU" + _IS + r"(?P<tflops_per_gpu>{num}) ?TFLOP"),
        inside("MFU", r"MFU[^|:=%]*(?:\(%\))?" + _IS + r"(?P<mfu_percent>{num})%?"),
        inside("seqlen", r"(?:actual[ _])?seqlen" + _IS + r"(?P<seqlen>{num})"),
        inside("skipped", r"skipped[ _]iterations" + _IS + r"(?P<skipped_iterations>{num})"),
        inside("nan", r"number[ _]of[ _]nan[ _]iterations" + _IS + r"(?P<nan_iterations>{num})"),
        beside("Tera Flops", r"Effective Tera Flops per GPU: *(?P<tflops_per_gpu>{num})"),
        beside("max allocated", r"max allocated: *(?P<memory_mb>{num})"),
        beside("max_allocated", r"max_allocated *[:=] *(?P<memory_mb>{num})"),
        beside("max-allocated", r"max-allocated[^|:=]*[:=] *(?P<memory_mb>{num})"),
        beside("loss at", r"valid(?:ation)? loss at .*?value[:=] *(?P<val_loss>{num})"),
        beside(
            "Step Time",
            r"Step Time *: *(?P<secondary_step_time_s>{num}) ?s .*?(?P<tflops_per_gpu>{num})"
            r" ?MODEL_TFLOP",
        ),
    ),
    precedence=10,
    complete=r"nan[ _]iterations[ :=]*\d",
    continues=r"^(?!.*time \(ms\)).*\||^\s*iterations:",
)
