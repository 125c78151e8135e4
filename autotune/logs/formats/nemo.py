"""NeMo: progress lines (2.x) and Lightning bars (1.x), with figures in ``name: v`` or ``name=v``.

The bar's own rate averages over validation and start-up: ``train_step_timing in s`` counts.
"""

from autotune.logs.format import LogFormat, beside, inside, opening, table

_IS = r" *[:=] *"

FORMAT = LogFormat(
    "nemo",
    table(
        opening(
            "Training epoch",
            r"Training epoch (?P<epoch>\d+), iteration (?P<iteration>\d+)/(?P<epoch_steps>\d" r"+)",
        ),
        opening(
            "Epoch",
            r"Epoch \d+ *:[^|]*\|[^|]*\| *(?P<iteration>\d+)/(?P<epoch_steps>\d+).*?"
            r"(?:reduced_train_loss|train_step_timing|global_step|consumed_samples)=",
        ),
        opening(
            "Epoch",
            r"Epoch \d+ *: *:? *(?P<iteration>\d+)it \[.*?"
            r"(?:reduced_train_loss|train_step_timing|global_step|consumed_samples)=",
        ),
        inside("global_step", r"\bglobal_step" + _IS + r"(?P<step>{num})"),
        inside("train_step_timing", r"train_step_timing in s" + _IS + r"(?P<seconds>{num})"),
        inside("step_time", r"\b(?:train_)?step_time" + _IS + r"(?P<seconds>{num})"),
        inside("loss", r"\breduced_train_loss" + _IS + r"(?P<loss>{num})"),
        inside("loss", r"(?:\| *|, *)(?:train_)?loss" + _IS + r"(?P<loss>{num})"),
        inside("val_loss", r"\bval_loss" + _IS + r"(?P<val_loss>{num})"),
        inside("global_batch_size", r"global_batch_size" + _IS + r"(?P<global_batch_size>{num})"),
        inside("FLOPS", r"TFLOPS_per_GPU" + _IS + r"(?P<tflops_per_gpu>{num})"),
        inside("tflops", r"tflops_per_(?:sec_per_)?gpu" + _IS + r"(?P<tflops_per_gpu>{num})"),
        inside(
            "tokens_per",
            r"tokens_per_sec(?:ond)?_per_gpu" + _IS + r"(?P<tokens_per_s_per_gpu>{num})",
        ),
        inside("tokens_per", r"tokens_per_sec(?:ond)?" + _IS + r"(?P<tokens_per_s>{num})"),
        inside("memory", r"peak_memory(?:_usage)?(?:_gb)?" + _IS + r"(?P<memory_gb>{num})"),
        beside("global_batches/sec", r"(?P<secondary_steps_per_s>{num}) global_batches/sec"),
    ),
    precedence=9,
    complete=r"train_step_timing.*[^| ] *$",
    continues=r"\||[:=]",
)
