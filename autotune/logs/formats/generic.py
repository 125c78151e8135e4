"""Programs of no known framework: what people call a step, its time, its rate and its loss.

Read only while no framework's own lines were seen.
"""

from autotune.logs.format import LinePattern, LogFormat, beside, inside, opening, table

_IS = r"[\"')]?\s*(?:[:=]|is)?\s*[\"']?"
_RATE_S = r"(?:/|[ _]?per[ _]?) ?s(?:ec(?:onds?|s)?)?\b"
_SAMPLES = (
    r"(?:samples?|sequences?|seqs?|sents?|examples?|images?|imgs?|items?|records?|instances?)"
)
_TOKENS = r"(?:tokens?|toks?|words?)"
_NOT_A_KEY = r"(?![\"']?\s*[:=]\s*[\"']?\d)"
_GPU = r"(?:/|[ _]?per[ _]?)(?:gpu|device|chip|rank|accelerator|npu)"
_STEPS = r"(?:it|iters?|iterations?|steps?|batch(?:es)?)"
_TIMED = (
    r"(?:(?:\b|\bavg_)(?:step|iter(?:ation)?|batch|train_step|step_time|iteration_time)[ _/]?"
    r"(?:time|duration|latency|timing)"
    rf"|\btime(?:/|[ _]per[ _]){_STEPS}\b)"
)
_MS = r" ?(?:ms|msec|milliseconds)\b"
_S = r" ?(?:s|sec|secs|seconds)\b"
_N = r"{num}(?:[KMGB]\b)?"
_STEP_KEY = (
    r"(?:global[ _]?step|train(?:ing)?[ _]?step|steps?|iteration|iter|it|batch|update|num_updates)"
)
_EVALUATED = r"\b(?:eval\w*|valid\w*|val|test\w*)\b[\])}|:,\s-]{1,4}" + _STEP_KEY + r"\b"
_TRAINING = r"^(?!.{,120}?\b(?:eval(?:uat\w+)?|valid(?:at\w+)?|val)\b).*?"
_STEP = (
    rf"(?i:^(?!.{{,120}}?{_EVALUATED}).*?(?:^|[\s|,;\[(\"'{{])"
    + _STEP_KEY
    + r"[\"']?\s*[:=#]?\s*\[?\s*(?P<step>\d(?:[\d,]|_\d)*)(?:\s*/\s*\d+)?)"
)

_MEMORY = r"(?i:(?:\b|_)mem(?:ory)?\b[^:=\d|,]{,60}[:=] *"
_USED_MEMORY = r"(?i:(?:\b|_)mem(?:ory)?\b[^:=\d|,]{,60}[:= ] *"
_MEMORY_INSIDE = (
    inside("em", _USED_MEMORY + r"(?P<memory_gb>{num}) ?Gi?B?\b)"),
    inside("em", _USED_MEMORY + r"(?P<memory_mb>{num}) ?Mi?B?\b)"),
    inside("bytes", _USED_MEMORY + r"(?P<memory_bytes>{num}) ?bytes\b)"),
)
_MEMORY_BESIDE = (
    beside("emory", _MEMORY + r"(?P<memory_gb>{num}) ?Gi?B\b)"),
    beside("emory", _MEMORY + r"(?P<memory_mb>{num}) ?Mi?B\b)"),
)

_TOLD = r"(?=.*(?i:loss|time|/s|per[ _]s|ms\b|tps|tflops|took))"
_RATES = ("/s", "/ s", "per", "/S", "PER")


def _either(needles: tuple[str, ...], regex: str) -> tuple[LinePattern, ...]:
    return tuple(opening(needle, regex) for needle in needles)


FORMAT = LogFormat(
    "generic",
    table(
        _either(("tep", "ter", "atch", "pdate", "STEP", "ITER"), _STEP + _TOLD),
        _either(
            _RATES,
            rf"(?i:{_TRAINING}\b(?P<samples_per_s>{_N}) ?{_SAMPLES}{_RATE_S}{_NOT_A_KEY})",
        ),
        _either(
            _RATES,
            rf"(?i:{_TRAINING}(?P<tokens_per_s_per_gpu>{_N}) ?{_TOKENS}{_RATE_S}{_GPU}"
            rf"{_NOT_A_KEY})",
        ),
        _either(
            _RATES,
            rf"(?i:{_TRAINING}(?P<tokens_per_s>{_N}) ?{_TOKENS}{_RATE_S}(?!{_GPU})"
            rf"{_NOT_A_KEY})",
        ),
        opening("[", r"(?:Epoch|Train|Step):? *\[?\d+\]? *[\[(] *(?P<step>\d+)/\d+"),
        opening("Iter(train)", r"Iter\(train\) *\[ *(?P<step>\d+)/ *\d+\]"),
        opening("batches", r"\|\s*(?P<step>\d+)/ *\d+ batches\b"),
        opening("][", r"\[\d+/\d+\]\[ *(?P<step>\d+)/\d+\]"),
        opening("eta:", r"\beta: .*\biter: (?P<step>\d+) .*\bloss: "),
        inside(
            "time",
            r"\btime:? (?P<step_time_s>{num}) +(?:\(|data|last_time|data_time" r"|loss|memory)",
        ),
        inside("max", r"\bmax[_ ]mem: (?P<memory_mb>{num})M?\b(?! ?G)"),
        inside("memory:", r"data_time: {num} +memory: (?P<memory_mb>{num})\b"),
        inside("mem", r"\bmem (?P<memory_mb>{num}) ?MB"),
        inside("Time", r"\bTime:? +(?P<step_time_s>{num})s? *\("),
        inside("Loss", r"\bLoss:? +(?P<loss>{num}) *\("),
        inside("", rf"(?i:{_TIMED}(?:[ _]?\(?ms\)?){_IS}(?P<step_time_ms>{{num}}))"),
        inside("", rf"(?i:{_TIMED}{_IS}(?P<step_time_ms>{{num}}){_MS})"),
        inside(
            "",
            rf"(?i:{_TIMED}(?:[ _]?\(?s(?:ec(?:onds)?)?\)?)?{_IS}(?P<step_time_s>{{num}})"
            rf"(?![\d.:]|,\d| ?[mu]s))",
        ),
        inside(":", rf"(?i:{_TIMED}{_IS}(?P<step_time_s>(?:\d+:)?\d+:\d\d(?:\.\d+)?)\b)"),
        inside("us", rf"(?i:{_TIMED}{_IS}(?P<step_time_us>{{num}}) ?us\b)"),
        inside("", rf"(?i:\b(?:time|dt|took|elapsed){_IS}(?P<step_time_ms>{{num}}){_MS})"),
        inside(
            "", rf"(?i:(?<!total )(?<!total_)\b(?:time|dt|took){_IS}(?P<step_time_s>{{num}}){_S})"
        ),
        inside(
            "/",
            rf"(?P<step_time_s>{{num}}) ?(?:s|secs?|seconds)/{_STEPS}\b",
        ),
        inside(
            "ms/",
            rf"(?P<step_time_ms>{{num}}) ?ms/{_STEPS}\b",
        ),
        inside("ms", r"[,|(] *(?P<step_time_ms>{num}) ?ms\b"),
        inside("ms/", rf"\bms/{_STEPS}{_IS}(?P<step_time_ms>{{num}})"),
        inside("/", rf"\bs(?:ec)?/{_STEPS}{_IS}(?P<step_time_s>{{num}})"),
        inside("s", rf"(?i:(?P<steps_per_s>{{num}}) ?{_STEPS}{_RATE_S}{_NOT_A_KEY})"),
        inside("s", rf"(?i:(?:\b|interval_){_STEPS}{_RATE_S}{_IS}(?P<steps_per_s>{{num}}))"),
        inside("", rf"(?i:{_SAMPLES}{_RATE_S}{_IS}(?P<samples_per_s>{_N}))"),
        inside("", rf"(?i:{_TOKENS}{_RATE_S}{_GPU}{_IS}(?P<tokens_per_s_per_gpu>{_N}))"),
        inside("", rf"(?i:{_TOKENS}{_GPU}{_RATE_S}{_IS}(?P<tokens_per_s_per_gpu>{_N}))"),
        inside("", rf"(?i:{_TOKENS}{_RATE_S}(?!{_GPU}){_IS}(?P<tokens_per_s>{_N}))"),
        inside("", rf"(?i:(?<![\w/])tps{_IS}(?P<tokens_per_s>{_N}))"),
        inside(
            "",
            r"(?i:(?<!val )(?<!val_)(?<!eval_)(?<!eval )(?<!valid_)(?<!z_)\bloss"
            + _IS
            + r"(?:tensor\()?(?P<loss>{num}))",
        ),
        inside(
            "",
            r"(?i:\b(?:train|training|lm|per_token|avg|ce|total)[ _-](?:\w+[ _-])?loss"
            + _IS
            + r"(?P<loss>{num}))",
        ),
        inside("", r"(?i:\bmfu" + _IS + r"(?P<mfu_percent>{num}) ?%)"),
        inside("", r"(?i:\bmfu" + _IS + r"(?P<mfu>0?\.\d+)\b(?! ?%))"),
        inside(
            "",
            r"(?i:tflops?(?:/s)?(?:/(?:gpu|device))?(?:[ _]per[ _]gpu)?(?: by megatron)?"
            + _IS
            + r"(?P<tflops_per_gpu>{num}))",
        ),
        inside("TFLOP", r"(?P<tflops_per_gpu>{num}) ?TFLOP"),
        inside("MB ", r"(?P<memory_mb>{num}) ?MB (?:peak|max)[ _]mem"),
        inside("GB ", r"(?P<memory_gb>{num}) ?GB (?:peak|max)[ _]mem"),
        beside(
            "loss",
            r"(?i:\b(?:avg|average|mean|epoch)?[ _]?(?:train|training)[ _]loss"
            + _IS
            + r"(?P<loss>{num}))",
        ),
        beside(
            "loss",
            r"(?i:\b(?:val|valid|validation|eval|test)[ _]loss" + _IS + r"(?P<val_loss>{num}))",
        ),
        *_MEMORY_INSIDE,
        *_MEMORY_BESIDE,
    ),
    precedence=90,
    fallback=True,
)
