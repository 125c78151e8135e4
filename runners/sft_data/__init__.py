"""Instruction data for the fine-tuning runners: found by path, see `instructions` and `compose`."""
