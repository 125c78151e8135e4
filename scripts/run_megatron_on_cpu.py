"""Really train with the real Megatron-LM and the flags that we render, without a GPU.

    scripts/run_megatron_on_cpu.py --megatron DIR

DIR is a checkout of Megatron-LM with its builders (`git archive TAG megatron '*.py'`). A tiny
GPT is rendered under several configs; each runs `pretrain_gpt.py` itself for a few steps in a
process of its own (`_megatron_on_cpu.py` says what is not real there). Every run has to end with
0, our parser has to read every step, and the losses have to be the same in all of them.
Needs the `pybind11` package, with which Megatron-LM builds its data set index. core_v0.12 runs
all but the last config: its distributed optimizer cannot do without Transformer Engine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from autotune.config import Config
from autotune.frameworks import RenderContext, get_framework
from autotune.logs import Parser
from autotune.space import SearchSpace, parse_space

PROGRAM = Path(__file__).resolve().parent / "_megatron_on_cpu.py"
MEGATRON = get_framework("megatron")
STEPS = 5
TOLERANCE = 1e-5
SPACE = """
name: tiny
framework: megatron
model: {{num_layers: 4, hidden_size: 64, ffn_hidden_size: 128, num_attention_heads: 4,
        num_query_groups: 2, vocab_size: 8192, max_position_embeddings: 128}}
cluster: {{nodes: 1, gpus_per_node: 1}}
contract: {{global_batch_size: 16, seq_length: 64, precision: fp32, optimizer: adam}}
parameters:
  micro_batch_size: {{values: [2, 4]}}
  recompute_granularity: {{values: [none, selective, full]}}
  recompute_method: {{values: [uniform, block], when: recompute_granularity == 'full'}}
  recompute_num_layers: {{values: [1, 2], when: recompute_granularity == 'full'}}
  use_distributed_optimizer: {{values: [false, true]}}
  overlap_grad_reduce: {{values: [false, true]}}
  overlap_param_gather: {{values: [false, true]}}
  gradient_accumulation_fusion: {{values: [false]}}
options:
  megatron_lm_dir: {folder}
  transformer_impl: local
  extra_args: [--no-persist-layer-norm, --no-rope-fusion, --no-masked-softmax-fusion,
               --no-bias-swiglu-fusion]
"""
PLAIN = {
    "micro_batch_size": 4, "recompute_granularity": "none", "use_distributed_optimizer": False,
    "overlap_grad_reduce": False, "overlap_param_gather": False,
    "gradient_accumulation_fusion": False,
}  # fmt: skip
CONFIGS = {
    "plain": PLAIN,
    "smaller micro batch": {**PLAIN, "micro_batch_size": 2},
    "selective recomputation": {**PLAIN, "recompute_granularity": "selective"},
    "full recomputation by block": {
        **PLAIN, "recompute_granularity": "full", "recompute_method": "block",
        "recompute_num_layers": 2,
    },
    "distributed optimizer, overlapped": {
        **PLAIN, "use_distributed_optimizer": True, "overlap_grad_reduce": True,
        "overlap_param_gather": True,
    },
}  # fmt: skip


def losses(space: SearchSpace, config: Config, megatron: Path) -> list[float]:
    """Losses of all steps; SystemExit with the end of the log when the run fails."""
    with tempfile.TemporaryDirectory() as folder:
        job = MEGATRON.render(space, config, RenderContext(trial_dir=Path(folder), steps=STEPS))
        done = subprocess.run(
            [sys.executable, str(PROGRAM), str(megatron), *job.argv[2:]],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}:\n{done.stdout[-500:]}\n{done.stderr[-2500:]}")
    parser = Parser(MEGATRON.log_format(space))
    read = [sample for line in done.stdout.splitlines() for sample in parser.feed(line, 0.0, 0)]
    found = [sample.loss for sample in read if sample.seconds and sample.loss is not None]
    if len(found) != STEPS:
        raise SystemExit(f"{len(found)} of {STEPS} steps were read from:\n{done.stdout[-2500:]}")
    return found


def main() -> int:
    """Run all configs; 0 when their losses agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megatron", type=Path, required=True, help="checkout of Megatron-LM")
    megatron = parser.parse_args().megatron.resolve()
    space = parse_space(SPACE.format(folder=megatron))
    reference: list[float] = []
    worst = 0.0
    for name, values in CONFIGS.items():
        found = losses(space, Config(values), megatron)
        reference = reference or found
        worst = max(worst, *(abs(a / b - 1) for a, b in zip(found, reference, strict=True)))
        print(f"{name}: {' '.join(f'{loss:.6f}' for loss in found)}", flush=True)
    print(f"largest relative difference {worst:.1e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
