"""OLMo and OLMo-core: a block of ``name=value`` lines under ``[step=10/1000,epoch=0]``."""

from autotune.logs.format import LogFormat, inside, opening, table

FORMAT = LogFormat(
    "olmo",
    table(
        opening("[step=", r"\[step=(?P<step>\d+)(?:/(?P<total_steps>\d+))?"),
        inside("Loss", r"train/CrossEntropyLoss=(?P<loss>{num})"),
        inside("CE loss", r"train/CE loss=(?P<loss>{num})"),
        inside(
            "tokens_per", r"throughput/device/tokens_per_second=(?P<tokens_per_s_per_gpu>{num})"
        ),
        inside("TPS", r"throughput/device/TPS=(?P<tokens_per_s_per_gpu>{num})"),
        inside("batches_per", r"throughput/device/batches_per_second=(?P<steps_per_s>{num})"),
        inside("BPS", r"throughput/device/BPS=(?P<steps_per_s>{num})"),
        inside("MFU", r"throughput/device/MFU=(?P<mfu_percent>{num})"),
        inside("Memory", r"Peak GPU Memory \(MB\)=(?P<memory_mb>{num})"),
    ),
    precedence=16,
    complete=r"(?!)",
    continues=r"^\s|=",
    max_lines=120,
)
