"""Train a GPT-2 with plain PyTorch: one process, or one of a gang under torchrun's variables.

Why: the published ladder from a naive to a fast GPT-2 is a list of switches; here each is a
flag (`--help` lists them). The same program runs on CUDA and on a CPU. It writes nothing but
its log, except a profile when asked for one; torchrun's RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT make it one rank of several.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import MODEL
from torch_trainer.flags import parse_flags
from torch_trainer.loop import train

if __name__ == "__main__":
    train(parse_flags(__doc__), MODEL)
