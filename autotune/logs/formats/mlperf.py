"""MLPerf's ``:::MLLOG`` lines, JSON after a mark; cut or prefixed lines are read all the same."""

from autotune.logs.format import LogFormat, beside, inside, opening, table

FORMAT = LogFormat(
    "mlperf",
    table(
        opening(":::ML", r"\"key\": \"(?:train_loss|tracked_stats)\""),
        inside("train_loss", r"\"key\": \"train_loss\", \"value\": (?P<loss>{num})"),
        inside("train_loss", r"\"(?:reduced_)?train_loss\": (?P<loss>{num})"),
        inside("throughput", r"\"throughput\": (?P<samples_per_s>{num})"),
        inside("step_time", r"\"(?:train_)?step_time\": (?P<seconds>{num})"),
        inside("step", r"\"step(?:_num)?\": (?P<progress>\d+)"),
        inside("samples_count", r"\"samples_count\": (?P<progress>\d+)"),
        beside("sequences_per", r"training_sequences_per_second['\"]?: (?P<samples_per_s>{num})"),
        beside("eval_accuracy", r"\"eval_accuracy\", \"value\": (?P<eval_accuracy>{num})"),
        beside("eval_loss", r"\"eval_loss\", \"value\": (?P<val_loss>{num})"),
    ),
    precedence=25,
)
