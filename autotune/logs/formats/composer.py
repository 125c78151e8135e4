"""MosaicML Composer and llm-foundry: a block of lines a batch, under ``[batch=10/100]:``."""

from autotune.logs.format import LogFormat, inside, opening, table

FORMAT = LogFormat(
    "composer",
    table(
        opening("[batch=", r"\[batch=(?P<step>\d+)(?:/(?P<total_steps>\d+))?"),
        inside("loss/train", r"loss/train/total: *(?P<loss>{num})"),
        inside("batches_per", r"throughput/batches_per_sec: *(?P<steps_per_s>{num})"),
        inside("samples_per", r"throughput/samples_per_sec: *(?P<samples_per_s>{num})"),
        inside("tokens_per", r"throughput/tokens_per_sec: *(?P<tokens_per_s>{num})"),
        inside("tokens_per", r"throughput/device/tokens_per_sec: *(?P<tokens_per_s_per_gpu>{num})"),
        inside("/mfu", r"throughput/device/mfu: *(?P<mfu>{num})"),
        inside("_mem", r"memory/peak_allocated_mem: *(?P<memory_gb>{num})"),
    ),
    precedence=16,
    complete=r"(?!)",
    continues=r"^\s|Train |Eval ",
    max_lines=120,
)
