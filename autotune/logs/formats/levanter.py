"""Levanter: a bar told by lines, as ``tqdm_loggable`` prints it where there is no terminal."""

from autotune.logs.format import LogFormat, inside, opening, table

_AT = r"Progress on:train (?P<step>{num}[kMG]?)(?:it)?/(?P<total_steps>{num}[kMG]?)(?:it)? rate:"

FORMAT = LogFormat(
    "levanter",
    table(
        opening("Progress on:train", _AT + r"(?P<seconds>{num})s/it"),
        opening("Progress on:train", _AT + r"(?P<steps_per_s>{num})it/s"),
        inside("loss", r"postfix:.*\bloss=(?P<loss>{num})"),
    ),
    precedence=50,
)
