"""What Megatron-LM says and is told: its flags and its log lines, for runners that stand in.

`runners/simulated` and `runners/megatron_core` share it, so that both take the same argument
vector as `pretrain_gpt.py` and print the same lines. Standard library only.
"""
