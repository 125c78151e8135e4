"""Supervised fine-tuning of a causal language model under DeepSpeed, made to be compared.

Everything that DeepSpeed can vary stands in `--deepspeed ds_config.json`; everything that decides
what is learned (model, data, their order, the global batch, the loss) does not depend on it: the
loss is the mean over the answer tokens of the global batch however that batch was cut. Weights
are random and nothing is saved unless a path says otherwise.

    python train.py --model config.json --deepspeed ds_config.json --steps 20

It is started once per rank with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the
environment (autotune's launchers, torchrun and `deepspeed` all do that).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import deepspeed
import torch
from builds import announce_builds, warn_of_build_locks
from deepspeed.accelerator import get_accelerator
from sft_data.arguments import common_parser
from sft_data.instructions import (
    SampleOrder,
    collate,
    load_examples,
    load_tokenizer,
    replica_indices,
)
from sft_data.models import DTYPES, build_model, default_tokenizer
from sft_data.steplog import step_line
from step_profiler import step_profiler


def parse_args() -> argparse.Namespace:
    """Flags of the program; `--deepspeed` holds the rest."""
    parser = common_parser(__doc__.splitlines()[0], "alpaca.jsonl")
    parser.add_argument("--deepspeed", required=True, help="path of ds_config.json")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--load", help="DeepSpeed checkpoint folder to continue from")
    parser.add_argument("--local_rank", type=int, help="passed by the deepspeed launcher")
    return parser.parse_args()


@dataclass(frozen=True)
class Layout:
    """Who trains on what: sizes derived from ds_config.json and the number of ranks."""

    replicas: int
    replica: int
    micro_batch_size: int
    accumulation: int

    @classmethod
    def of(cls, config: dict, rank: int, world_size: int) -> Layout:
        """AutoTP groups are runs of consecutive ranks; the ranks of one share their samples."""
        tensor = max(1, config.get("tensor_parallel", {}).get("autotp_size", 1))
        return cls(
            replicas=world_size // tensor,
            replica=rank // tensor,
            micro_batch_size=config["train_micro_batch_size_per_gpu"],
            accumulation=config["gradient_accumulation_steps"],
        )

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all replicas."""
        return self.replicas * self.micro_batch_size * self.accumulation


def precision_of(config: dict) -> str:
    """fp32, bf16 or fp16 as the DeepSpeed config switches it on."""
    enabled = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    return enabled[0] if enabled else "fp32"


def build_engine(args: argparse.Namespace, config: dict):
    """The model under DeepSpeed, compiled and checkpointing as asked."""
    model = build_model(args.model, DTYPES[precision_of(config)], args.seed)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=list(model.parameters()), config=config
    )
    if args.torch_compile:
        engine.compile(
            backend=args.torch_compile_backend, compile_kwargs={"mode": args.torch_compile_mode}
        )
    if args.load:
        engine.load_checkpoint(args.load)
    else:
        forget_dry_step(engine)
    return engine


def forget_dry_step(engine) -> None:
    """Sets Adam's step count back to 0 before training.

    Some of DeepSpeed's wrappers (low precision at ZeRO-0) allocate the optimizer's states by a
    step with zero gradients, which counts: bias correction would then shrink the first real
    updates by a quarter, and losses would differ from those of every other stage.
    """
    for state in engine.basic_optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"].zero_()
        elif "step" in state:
            state["step"] = 0


class Trainer:
    """One rank's part in the optimizer steps."""

    def __init__(self, engine, layout: Layout, examples, args: argparse.Namespace, pad_id: int):
        self.engine, self.layout, self.examples = engine, layout, examples
        self.order = SampleOrder(len(examples), args.seed)
        self.pad_id = pad_id
        self.fixed_length = args.seq_length if args.padding == "max_length" else 0

    def step(self, step: int) -> tuple[int, float]:
        """Runs optimizer step `step` (from 0): true tokens and mean loss of the global batch."""
        layout = self.layout
        indices = self.order.step(step, layout.global_batch_size)
        tokens = sum(len(self.examples[index].ids) for index in indices)
        targets = sum(self.examples[index].targets for index in indices)
        total = torch.zeros(1, device=self.engine.device, dtype=torch.float32)
        for micro in replica_indices(
            indices, layout.replica, layout.replicas, layout.micro_batch_size
        ):
            share, loss = self._micro_loss(micro, targets)
            total += share
            self.engine.backward(loss)
            self.engine.step()
        deepspeed.comm.all_reduce(total)
        ranks_per_replica = deepspeed.comm.get_world_size() // layout.replicas
        get_accelerator().synchronize()
        return tokens, total.item() / ranks_per_replica

    def _micro_loss(self, micro: list[int], targets: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This micro batch's share of the mean loss, and what to hand to backward.

        DeepSpeed divides by the accumulation and averages over replicas; the second undoes
        both, so that the gradient is that of the mean over all answer tokens.
        """
        chosen = [self.examples[index] for index in micro]
        batch = collate(chosen, self.pad_id, fixed_length=self.fixed_length)
        batch = {name: tensor.to(self.engine.device) for name, tensor in batch.items()}
        mean = self.engine(**batch).loss
        share = mean * (sum(example.targets for example in chosen) / targets)
        return share.detach().float(), share * (self.layout.accumulation * self.layout.replicas)


def main() -> None:
    """Trains `--steps` optimizer steps and prints one line for each on rank 0."""
    args = parse_args()
    config = json.loads(Path(args.deepspeed).read_text())
    if get_accelerator().device_name() != "cpu":
        get_accelerator().set_device(int(os.environ.get("LOCAL_RANK", "0")))
    announce_builds()
    deepspeed.init_distributed()
    rank, world_size = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()
    layout = Layout.of(config, rank, world_size)
    if rank == 0:
        warn_of_build_locks()
    engine = build_engine(args, config)
    tokenizer = load_tokenizer(
        args.tokenizer or default_tokenizer(args.model), engine.module.config.vocab_size
    )
    examples = load_examples(args.data, tokenizer, args.seq_length)
    trainer = Trainer(engine, layout, examples, args, tokenizer.pad_token_id)
    with step_profiler(args.profile, Path(args.profile_dir), rank) as profiled_step:
        for step in range(args.steps):
            started = time.perf_counter()
            tokens, loss = trainer.step(step)
            seconds = time.perf_counter() - started
            profiled_step()
            if rank == 0:
                print(step_line(step + 1, args.steps, seconds, tokens, loss), flush=True)
    if args.save:
        engine.save_checkpoint(args.save)
    if rank == 0:
        print("training finished", flush=True)
    deepspeed.comm.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    # Its C++ threads abort the interpreter's own exit now and then (signal 6, one run in tens)
    # after all is done and said; a finished run must not end as a crash.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
