"""nanoGPT and its family: build-nanogpt, nanochat, modded-nanogpt, llm.c."""

from autotune.logs.format import LogFormat, beside, inside, opening, table

FORMAT = LogFormat(
    "nanogpt",
    table(
        opening(
            "iter ",
            r"\biter (?P<step>\d+):? *,? *(?:train )?loss[: ]*(?P<loss>{num}).*?time[: ]*"
            r"(?P<step_time_ms>{num}) ?ms",
        ),
        opening(
            "iter ",
            r"\biter (?P<step>\d+):? *,? *(?:train )?loss[: ]*(?P<loss>{num}).*?time[: ]*"
            r"(?P<step_time_s>{num}) ?s\b",
        ),
        opening("step:", r"\bstep:(?P<step>\d+)/(?P<total_steps>\d+)\b"),
        opening("trl:", r"\bs:(?P<step>\d+) trl:(?P<loss>{num})"),
        opening(
            "step ",
            r"\bstep +(?P<step>\d+)(?:/ *(?P<total_steps>\d+))?(?: \([\d.]+%\))? *["
            r"|:,].*(?:\b(?:dt|took)\b|\d ?ms\b|tok/s)",
        ),
        inside("step_avg:", r"step_avg:(?P<step_time_ms>{num}) ?ms"),
        inside("step_avg:", r"step_avg:(?P<step_time_s>{num}) ?s\b"),
        inside("val_loss:", r"\bval_loss:(?P<val_loss>{num})"),
        inside("train_loss:", r"\btrain_loss:(?P<loss>{num})"),
        inside("loss", r"(?<!val )(?<!val_)\bloss[: ]+(?P<loss>{num})"),
        inside("dt", r"\bdt[:= ]+(?P<step_time_ms>{num}) ?ms"),
        inside("dt", r"\bdt[:= ]+(?P<step_time_s>{num}) ?s\b"),
        inside("took", r"\btook[: ]+(?P<step_time_ms>{num}) ?ms"),
        inside("ms", r"[|(,] *(?:(?:step )?time[: ]*)?(?P<step_time_ms>{num}) ?ms\b"),
        inside("tok", r"tok(?:ens)?/s(?:ec)?[:= ]+(?P<tokens_per_s>{num}[KMk]?)"),
        inside("tok", r"(?P<tokens_per_s>{num}[KMk]?) tok(?:ens)?/s"),
        inside("mfu", r"(?:\b|_)mfu[: ]+(?P<mfu_percent>{num})%?"),
        inside("MFU", r"(?P<mfu_percent>{num})% (?:\w+ )?MFU"),
        beside("tel:", r"\bs:(?P<step>\d+) tel:(?P<val_loss>{num})"),
        beside(
            "val loss",
            r"\bstep +(?P<step>\d+):? train loss (?P<secondary_loss>{num}), val loss "
            r"(?P<val_loss>{num})",
        ),
        beside("val", r"(?<!-)\b[Vv]al(?:idation)?[ _](?:loss|bpb)[: =]+(?P<val_loss>{num})"),
        beside(
            "peak memory",
            r"peak memory (?:consumption|allocated)?[^:]*: *(?P<memory_mib>{num}) ?Mi?B",
        ),
        beside("eak memory", r"eak memory[ \w]*: *(?P<memory_mib>{num}) ?Mi?B"),
    ),
    precedence=40,
)
