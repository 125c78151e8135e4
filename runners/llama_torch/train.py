"""Train a Llama in full with plain PyTorch: one process, or one of a gang under torchrun's
variables.

Why: full fine-tuning of a small Llama on one GPU is a matter of micro batch, recomputation,
compilation, optimizer, attention kernel and how the logits are held; each is a flag (`--help`).
Weights are random and the text is made up, so that speed and memory can be measured anywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import MODEL
from torch_trainer.flags import parse_flags
from torch_trainer.loop import train

LLAMA_3_2_1B = {
    "num_layers": 16,
    "hidden_size": 2048,
    "ffn_hidden_size": 8192,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "vocab_size": 128256,
    "rotary_base": 500000.0,
    "seq_length": 2048,
}

if __name__ == "__main__":
    train(parse_flags(__doc__, LLAMA_3_2_1B), MODEL)
