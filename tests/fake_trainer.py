"""A training program that fails on request: what tests of the whole loop start as a trial.

Standard library only, so that it starts in some 20 ms. Each mode is one way in which a real
trainer ends or misbehaves; the rank is read from the environment as torchrun sets it.

    python tests/fake_trainer.py --mode oom_exit0 --steps 8 --tokens-per-s 1000
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

RANK = int(os.environ.get("RANK", "0"))
FOREVER_S = 3600.0
MODES: dict[str, Callable[[argparse.Namespace], None]] = {}

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total "
    "capacity of 79.11 GiB of which 1.02 GiB is free. Including non-PyTorch memory, this process "
    "has 78.09 GiB memory in use. Of the allocated memory 75.00 GiB is allocated by PyTorch, and "
    "1.50 GiB is reserved by PyTorch but unallocated."
)


def mode(function: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Register a mode under its function's name."""
    MODES[function.__name__] = function
    return function


def say(text: str) -> None:
    """One line on stdout, at once."""
    print(text, flush=True)


def traceback(message: str) -> None:
    """A Python traceback that ends in a message, on stderr."""
    print("Traceback (most recent call last):", file=sys.stderr)
    print('  File "/job/train.py", line 212, in train_step', file=sys.stderr)
    print("    loss.backward()", file=sys.stderr)
    print(message, file=sys.stderr, flush=True)


def train(args: argparse.Namespace, first: int = 1, last: int | None = None) -> None:
    """Steps ``first`` to ``last``, one line each; rank 0 speaks."""
    for step in range(first, (last or args.steps) + 1):
        time.sleep(args.step_s)
        if RANK == 0:
            loss = 4.0 + 6.0 / (step + 1)
            say(
                f"step {step}/{args.steps} | loss: {loss:.4f} | step_time_s: {args.step_s:.6f} "
                f"| tokens/s: {args.tokens_per_s:.1f}"
            )


def hang() -> NoReturn:
    """Never come back, without burning CPU."""
    while True:
        time.sleep(FOREVER_S)


@mode
def ok(args: argparse.Namespace) -> None:
    """Trains and ends with 0."""
    train(args)


@mode
def slow_start(args: argparse.Namespace) -> None:
    """Silent for ``--start-s`` seconds, as a compiling job is, then trains."""
    time.sleep(args.start_s)
    train(args)


@mode
def oom(args: argparse.Namespace) -> None:
    """Runs out of GPU memory in the second step: exit 1."""
    train(args, last=1)
    traceback(OOM)
    sys.exit(1)


@mode
def oom_one_rank_others_hang(args: argparse.Namespace) -> None:
    """The last rank runs out of memory and waits for the others, who wait for it."""
    train(args, last=1)
    if int(os.environ.get("WORLD_SIZE", "1")) - 1 == RANK:
        traceback(f"[rank{RANK}]: {OOM}")
    hang()


@mode
def oom_exit0(args: argparse.Namespace) -> None:
    """Says that memory ran out, and ends with 0."""
    train(args, last=2)
    traceback(OOM)


@mode
def oom_caught(args: argparse.Namespace) -> None:
    """Catches an out-of-memory error once and trains on to the end."""
    train(args, last=1)
    say(f"caught, retrying with less: {OOM}")
    train(args, first=2)


@mode
def figure_then_exit1(args: argparse.Namespace) -> None:
    """Prints all its figures and then dies."""
    train(args)
    traceback("RuntimeError: failed while shutting down")
    sys.exit(1)


@mode
def no_figure(args: argparse.Namespace) -> None:
    """Ends with 0 without a single step."""
    say("nothing to train, done")


@mode
def hang_after_steps(args: argparse.Namespace) -> None:
    """Three steps, then silence, as a deadlocked collective."""
    train(args, last=3)
    hang()


@mode
def hang_at_start(args: argparse.Namespace) -> None:
    """Silent from the beginning."""
    hang()


@mode
def nan(args: argparse.Namespace) -> None:
    """The loss is lost in the third step; the program does not mind."""
    train(args, last=2)
    for step in range(3, args.steps + 1):
        time.sleep(args.step_s)
        say(
            f"step {step}/{args.steps} | loss: nan | step_time_s: {args.step_s:.6f} "
            f"| tokens/s: {args.tokens_per_s:.1f}"
        )


@mode
def ignore_sigterm(args: argparse.Namespace) -> None:
    """Hears SIGTERM and SIGINT and goes on for ever."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: say("signal ignored"))
    train(args, last=1)
    hang()


@mode
def orphan(args: argparse.Namespace) -> None:
    """Leaves a process behind in a session of its own (double fork), and ends well."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            devnull = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(devnull, number)
            hang()
        os._exit(0)
    os.wait()
    train(args)


@mode
def big_log(args: argparse.Namespace) -> None:
    """``--log-mib`` of chatter among its steps, half of it on one endless line."""
    chatter = b"DEBUG: nothing of note happened here, and it happens again\n" * 17000
    for _ in range(max(1, args.log_mib // 2)):
        sys.stdout.buffer.write(chatter)
    endless = b"x" * (1 << 20)
    for _ in range(max(1, args.log_mib // 2)):
        sys.stdout.buffer.write(endless)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    train(args)


@mode
def port_in_use(args: argparse.Namespace) -> None:
    """Cannot bind its rendezvous port: taken for real when ``MASTER_PORT`` is, else pretended."""
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", int(os.environ.get("MASTER_PORT", "0"))))
        except OSError as error:
            traceback(f"torch.distributed.DistNetworkError: {error}")
            sys.exit(1)
    traceback(
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
        "network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: "
        "address already in use"
    )
    sys.exit(1)


@mode
def import_error(args: argparse.Namespace) -> None:
    """A package that is not installed."""
    traceback("ModuleNotFoundError: No module named 'flash_attn'")
    sys.exit(1)


@mode
def data_missing(args: argparse.Namespace) -> None:
    """A data set that is not there."""
    traceback("FileNotFoundError: [Errno 2] No such file or directory: '/data/train.bin'")
    sys.exit(1)


@mode
def invalid_config(args: argparse.Namespace) -> None:
    """The program refuses its own arguments."""
    traceback(
        "AssertionError: num_attention_heads (12) must be a multiple of "
        "tensor_model_parallel_size (8)."
    )
    sys.exit(1)


@mode
def killed(args: argparse.Namespace) -> None:
    """Dies of SIGKILL, as the kernel's memory killer ends it."""
    train(args, last=1)
    os.kill(os.getpid(), signal.SIGKILL)


@mode
def truncated(args: argparse.Namespace) -> None:
    """Ends in the middle of a line, without a word."""
    train(args, last=1)
    sys.stdout.write(f"step 2/{args.steps} | loss: 4.2 | step_ti")
    sys.stdout.flush()
    sys.exit(0)


def main() -> None:
    """Run one mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=sorted(MODES), default="ok")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--step-s", type=float, default=0.01, help="seconds of one step")
    parser.add_argument("--start-s", type=float, default=2.0, help="silence of slow_start")
    parser.add_argument("--log-mib", type=int, default=64, help="size of big_log")
    parser.add_argument("--tokens-per-s", type=float, default=1000.0)
    args = parser.parse_args()
    MODES[args.mode](args)


if __name__ == "__main__":
    main()
