"""`python -m autotune`: the command line, for environments without the script on PATH."""

from autotune.cli import main

main()
