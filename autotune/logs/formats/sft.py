"""The fine-tuning runners shipped here (`runners/sft_data/steplog.py`): true tokens a step.

Believed before DeepSpeed's own lines, whose SamplesPerSec counts the tensor-parallel ranks.
"""

from autotune.logs.format import LogFormat, beside, opening, table

FORMAT = LogFormat(
    "sft",
    table(
        opening(
            "step_time_s",
            r"\bstep (?P<step>\d+)/(?P<total_steps>\d+) \| loss (?P<loss>{num}) \| "
            r"step_time_s (?P<step_time_s>{num}) \| tokens (?P<tokens>{num}) \| "
            r"tokens_per_s (?P<tokens_per_s>{num}) \| memory_gib (?P<memory_gib>{num})",
        ),
        beside("eval_loss", r"eval_loss (?P<eval_loss>{num}) \| perplexity (?P<perplexity>{num})"),
        beside(
            "target not reached", r"^target not reached: (?P<target_missed>{num}) after \d+ steps"
        ),
        beside("time_to_target_s", r"^time_to_target_s (?P<time_to_target_s>{num})"),
    ),
    precedence=5,
)
