"""The trainer that the plain PyTorch programs share; needs the standard library and torch only.

flags      the command line, from flags.json
data       mock text, the same for one seed under any layout
ops        norm, activation and attention, written out or native
loss       cross-entropy in full or in chunks
optimizer  AdamW, three ways
parallel   ranks, DDP, FSDP2, compilation
loop       the steps, their timing and the log line
"""
