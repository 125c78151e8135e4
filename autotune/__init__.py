"""autotune: finds the layout, batch, memory and compile settings that train a model fastest.

Importing this package imports nothing else, so that ``autotune --help`` and the supervisor
that runs on every node stay quick; ``autotune.load_study`` is loaded when it is asked for.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loads what a notebook asks for, and its imports, only then."""
    if name == "load_study":
        from importlib import import_module

        return import_module("autotune.notebook").load_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
