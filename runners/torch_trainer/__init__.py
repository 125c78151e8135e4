"""The trainer that the plain PyTorch programs share; needs the standard library and torch only.

flags      the command line, from flags.json
data       mock text, the same for one seed under any layout
ops        norm, activation and attention, written out or native
decoder    what the models share around their blocks
recompute  what is kept for the backward pass
loss       cross-entropy in full, in chunks, or by a kernel of our own (triton_loss, fp8_loss)
optimizer  AdamW, three ways
parallel   ranks, DDP, FSDP2, compilation
loop       the steps, their timing and the log line
"""
