"""The simulated cluster: see `train.py`, the program, and `physics.py`, what is true on it."""
