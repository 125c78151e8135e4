"""Hugging Face Trainer and what is built on it (TRL, LLaMA-Factory, axolotl, ms-swift).

Losses come as printed dicts (quoted numbers since transformers 5), the step time only from the
bar, throughput only from the summary that every rank prints at the end.
"""

from autotune.logs.format import LogFormat, beside, inside, opening, table
from autotune.logs.formats._bars import BARS

_V = r"'?\"?(?P<{}>{{num}})"


def _key(name: str, group: str) -> str:
    return rf"['\"]{name}['\"]: *{_V.format(group)}"


FORMAT = LogFormat(
    "hf",
    table(
        beside("train_runtime", r"train_runtime['\"]?\s*[:=] *'?(?P<train_runtime_s>[\d:.]+)"),
        beside(
            "train_samples_per",
            r"train_samples_per_second['\"]?\s*[:=] *'?(?P<summary_samples_per_s>{num})",
        ),
        beside(
            "train_steps_per",
            r"train_steps_per_second['\"]?\s*[:=] *'?(?P<summary_steps_per_s>{num})",
        ),
        beside(
            "train_tokens_per",
            r"train_tokens_per_second['\"]?\s*[:=] *'?(?P<summary_tokens_per_s>{num})",
        ),
        beside(
            "train_loss",
            r"(?:train_runtime.*'|>>\s+|^\s+)train_loss['\"]?\s*[:=] *'?(?P<secondary_loss>"
            r"{num})",
        ),
        beside("eval_loss", r"eval_loss['\"]?\s*[:=] *'?(?P<val_loss>{num})"),
        BARS,
        opening("loss'", _key("loss", "loss")),
        inside("step", _key("(?:global_)?step", "step").replace("{num}", r"\d+")),
        inside("global_step", _key("global_step/max_steps", "step").replace("{num}", r"\d+")),
        inside("train_speed", _key(r"train_speed\(iter/s\)", "steps_per_s")),
        inside("train_speed", _key(r"train_speed\(s/it\)", "seconds")),
        inside("memory", _key(r"memory\(GiB\)", "memory_gib")),
        inside("memory", _key(r"memory/max_(?:mem_)?(?:active|allocated)[^'\"]*", "memory_gib")),
        inside("tokens_per", _key("tokens_per_second_per_gpu", "tokens_per_s_per_gpu")),
        inside("per_gpu", _key("tokens/train_per_sec_per_gpu", "tokens_per_s_per_gpu")),
        inside("throughput", _key("throughput", "summary_tokens_per_s")),
        inside("grad_norm", _key("grad_norm", "grad_norm")),
    ),
    precedence=20,
    lock="bar_total",
)
