"""Megatron-LM and its many forks: one line a log interval, fields set apart by bars.

Old forks print seconds, underscores and ``=``; AMD's prints ``this/average``.
Source of the format: ``training_log`` in megatron/training.py and its descendants.
"""

from autotune.logs.format import LogFormat, beside, inside, opening, table

_IS = r"[ _]*[:=] *"
_TIME = r"time[ _]per[ _]iteration[ _]*"

FORMAT = LogFormat(
    "megatron",
    table(
        opening("iteration", r"\biteration *[:=]? *(?P<step>\d+) */ *(?P<total_steps>\d+) *\|"),
        inside("time", _TIME + r"\(?ms\)?" + _IS + r"(?P<step_time_ms>{num})"),
        inside("time", _TIME + r"\(?s\)?" + _IS + r"(?P<step_time_s>{num})"),
        inside("loss", r"\b(?:lm|LM)?[ _-]?loss" + _IS + r"(?P<loss>{num})"),
        inside("batch", r"global[ _]batch[ _]size" + _IS + r"(?P<global_batch_size>{num})"),
        inside("amples", r"[Ss]amples[ _]per[ _]second" + _IS + r"(?P<samples_per_s>{num})"),
        inside("TFLOP", r"TFLOPs?[^|:=]*" + _IS + r"(?P<tflops_per_gpu>{num})"),
        inside("skipped", r"skipped[ _]iterations" + _IS + r"(?P<skipped_iterations>{num})"),
        beside("Tera Flops", r"Effective Tera Flops per GPU: (?P<tflops_per_gpu>{num})"),
        beside("max allocated", r"max allocated: (?P<memory_mb>{num})"),
        beside("validation loss", r"validation loss at .*?value: (?P<val_loss>{num})"),
    ),
    precedence=10,
    complete=r"\| *$|nan[ _]iterations|TFLOP",
)
