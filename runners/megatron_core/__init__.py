"""A small GPT on the `megatron-core` wheel: see `train.py`."""
