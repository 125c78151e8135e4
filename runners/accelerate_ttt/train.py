"""Time to train, in miniature: fine-tune on instructions until the evaluation loss meets a target.

With `--target-loss` the clock runs from the first training step (compilation and evaluations
included, as MLPerf counts them) until the evaluation cross-entropy over held-out answers is at or
below the target. Without it the program measures throughput over `--max-steps` steps, the cheap
first fidelity; `--max-steps 16` is the smoke test.

    accelerate launch train.py --model config.json --micro-batch-size 4 --max-steps 16

Also started once per rank with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sft_data.arguments import common_parser
from sft_data.instructions import (
    Encoded,
    SampleOrder,
    collate,
    load_examples,
    load_tokenizer,
    replica_indices,
)
from sft_data.models import DTYPES, build_model, default_tokenizer
from sft_data.steplog import step_line
from step_profiler import step_profiler

HELD_OUT_EVERY = 10
OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
    "sgd": torch.optim.SGD,
}


def parse_args() -> argparse.Namespace:
    """Flags of the program."""
    parser = common_parser(__doc__.splitlines()[0], "dolly.jsonl")
    parser.add_argument("--micro-batch-size", type=int, default=1)
    parser.add_argument("--gradient-accumulation-steps", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--warmup-steps", type=int, default=0)
    parser.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="adamw")
    parser.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), default="no")
    parser.add_argument("--param-dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--max-steps", type=int, default=1000)
    parser.add_argument("--target-loss", type=float, help="evaluation cross-entropy to reach, nats")
    parser.add_argument("--eval-interval", type=int, default=20, help="steps between evaluations")
    parser.add_argument("--eval-batch-size", type=int, default=0, help="0: the micro batch")
    return parser.parse_args()


def split_held_out(examples: list[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
    """(training, evaluation): every tenth example is held out, whatever the seed."""
    held_out = examples[::HELD_OUT_EVERY]
    training = [e for place, e in enumerate(examples) if place % HELD_OUT_EVERY]
    if not training:
        raise SystemExit(f"{len(examples)} examples are too few to hold any out")
    return training, held_out


class Run:
    """One rank's share of a run; every rank holds the same examples and the same order."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        set_seed(args.seed)
        self.accelerator = Accelerator(mixed_precision=args.mixed_precision)
        model = build_model(args.model, DTYPES[args.param_dtype], args.seed)
        tokenizer = load_tokenizer(
            args.tokenizer or default_tokenizer(args.model), model.config.vocab_size
        )
        examples = load_examples(args.data, tokenizer, args.seq_length)
        self.training, self.held_out = split_held_out(examples)
        self.order = SampleOrder(len(self.training), args.seed)
        self.pad_id = tokenizer.pad_token_id
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        if args.torch_compile:
            model.compile(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
        optimizer = OPTIMIZERS[args.optimizer](model.parameters(), lr=args.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all ranks."""
        args = self.args
        ranks = self.accelerator.num_processes
        return args.micro_batch_size * args.gradient_accumulation_steps * ranks

    def loss_sum(self, chosen: list[Encoded]) -> torch.Tensor:
        """Cross-entropy summed over the answer tokens of one micro batch, nats."""
        fixed = self.args.seq_length if self.args.padding == "max_length" else 0
        batch = collate(chosen, self.pad_id, fixed_length=fixed)
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        return self.model(**batch).loss.float() * sum(example.targets for example in chosen)

    def step(self, step: int) -> tuple[int, float]:
        """Runs optimizer step `step` (from 0): true tokens and mean loss of the global batch."""
        accelerator = self.accelerator
        indices = self.order.step(step, self.global_batch_size)
        targets = sum(self.training[index].targets for index in indices)
        rank, ranks = accelerator.process_index, accelerator.num_processes
        micro_batches = replica_indices(indices, rank, ranks, self.args.micro_batch_size)
        total = torch.zeros((), device=accelerator.device)
        for number, micro in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.loss_sum([self.training[index] for index in micro]) / targets
                # Replicas are averaged, so the global mean needs their number back.
                accelerator.backward(loss * ranks)
            total += loss.detach()
        accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self._set_learning_rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        total = accelerator.reduce(total, reduction="sum")
        tokens = sum(len(self.training[index].ids) for index in indices)
        return tokens, total.item()

    def _set_learning_rate(self, step: int) -> None:
        warmup = self.args.warmup_steps
        scale = min(1.0, (step + 1) / warmup) if warmup else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.learning_rate * scale

    @torch.no_grad()
    def evaluate(self) -> float:
        """Mean cross-entropy over all answer tokens of the held-out examples, nats."""
        accelerator = self.accelerator
        size = self.args.eval_batch_size or self.args.micro_batch_size
        mine = self.held_out[accelerator.process_index :: accelerator.num_processes]
        total = torch.zeros((), device=accelerator.device)
        self.model.eval()
        for start in range(0, len(mine), size):
            total += self.loss_sum(mine[start : start + size])
        self.model.train()
        total = accelerator.reduce(total, reduction="sum")
        return total.item() / sum(example.targets for example in self.held_out)


def train(run: Run) -> float | None:
    """Steps until the target is met or `--max-steps` are done; seconds to the target, or None."""
    args, main = run.args, run.accelerator.is_main_process
    began = time.perf_counter()
    folder, rank = Path(args.profile_dir), run.accelerator.process_index
    with step_profiler(args.profile, folder, rank) as profiled_step:
        for step in range(args.max_steps):
            started = time.perf_counter()
            tokens, loss = run.step(step)
            seconds = time.perf_counter() - started
            profiled_step()
            if main:
                print(step_line(step + 1, args.max_steps, seconds, tokens, loss), flush=True)
            if args.target_loss is None or (step + 1) % args.eval_interval:
                continue
            eval_loss = run.evaluate()
            elapsed_s = time.perf_counter() - began
            if main:
                print(
                    f"eval step {step + 1} | eval_loss {eval_loss:.6f} | "
                    f"perplexity {math.exp(min(eval_loss, 50.0)):.4f} | elapsed_s {elapsed_s:.3f}",
                    flush=True,
                )
            if eval_loss <= args.target_loss:
                return elapsed_s
    return None


def main() -> None:
    """One run: throughput without a target, time to train with one."""
    args = parse_args()
    run = Run(args)
    reached_s = train(run)
    if args.save and run.accelerator.is_main_process:
        run.accelerator.unwrap_model(run.model).save_pretrained(args.save)
    if run.accelerator.is_main_process:
        if reached_s is not None:
            print(f"time_to_target_s {reached_s:.3f} | target_loss {args.target_loss}", flush=True)
        elif args.target_loss is not None:
            print(
                f"target not reached: {args.target_loss} after {args.max_steps} steps", flush=True
            )
    run.accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if args.target_loss is not None and reached_s is None:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
