"""autotune: finds the layout, batch, memory and compile settings that train a model fastest.

Importing this package imports nothing else, so that ``autotune --help`` and the supervisor
that runs on every node stay quick.
"""

__version__ = "0.1.0"
