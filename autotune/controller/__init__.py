"""The loop that owns a study: ask, render, launch, watch, judge, tell."""

from autotune.controller.events import Listener, Progress, Silent
from autotune.controller.loop import Controller
from autotune.controller.mending import extend_study, repair_study
from autotune.controller.nodes import release_nodes
from autotune.controller.setting import Options, Setting, prepare, prepare_space
from autotune.controller.warm_start import start_from

__all__ = [
    "Controller",
    "Listener",
    "Options",
    "Progress",
    "Setting",
    "Silent",
    "extend_study",
    "prepare",
    "prepare_space",
    "release_nodes",
    "repair_study",
    "start_from",
]
