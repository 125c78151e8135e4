"""torchtune: a bar that starts with ``epoch|step|Loss``, and its metric file's lines."""

from autotune.logs.format import LogFormat, inside, opening, table

FORMAT = LogFormat(
    "torchtune",
    table(
        opening(
            "|Loss:", r"\d+\|(?P<step>\d+)\|Loss: *(?P<loss>{num}).*?, *(?P<seconds>{num}) ?s/it"
        ),
        opening(
            "|Loss:",
            r"\d+\|(?P<step>\d+)\|Loss: *(?P<loss>{num}).*?, *(?P<steps_per_s>{num}) ?it/s",
        ),
        opening("Step ", r"\bStep (?P<step>\d+) \| .*\bloss: ?(?P<loss>{num})"),
        inside("tokens_per", r"tokens_per_second_per_gpu: ?(?P<tokens_per_s_per_gpu>{num})"),
        inside("peak_memory", r"peak_memory_alloc(?:ated)?: ?(?P<memory_gib>{num})"),
    ),
    precedence=18,
)
