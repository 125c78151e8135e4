"""tqdm's progress bars, as several frameworks show them: which ones time a training step.

A bar that names another job (loading, tokenizing, evaluating) or counts other things than
iterations is no step. Of bars with different totals the first in the stream is the training's.
"""

from autotune.logs.format import inside, opening, table

_OTHER_WORK = (
    r"(?i:load|down|map|filter|token|generat|eval|valid|sav|fetch|resolv|convert|process|prepar"
    r"|pack|group|extract|creat|checkpoint|test|predict|infer|sampl|shard|quant|comput|read|build"
    r"|upload|merg|sanity|writ|cach|calib|captur|warm|profil|saniti|index|split|shuffl|file)"
)
_UNIT = r"(?:it|steps?|batch(?:es)?|b|iters?|iterations?|updates?|global_steps?)"
_BAR = (
    rf"^(?![^|%]*{_OTHER_WORK}[^|%]*%).*?\d+%\|[^|]*\| *(?P<step>\d+)/(?P<bar_total>\d+) "
    r"\[(?P<bar_elapsed>[\d:]+)<[^,\]]*, *"
)

BARS = table(
    opening("%|", _BAR + rf"(?P<seconds>{{num}}) ?s/{_UNIT}\b"),
    opening("%|", _BAR + rf"(?P<steps_per_s>{{num}}) ?{_UNIT}/s"),
    inside(
        "loss", r"[, \[](?:[^\W_]+[ _/]){,4}?(?<!val_)(?<!eval_)loss(?:_step)?[=:] *(?P<loss>{num})"
    ),
)
