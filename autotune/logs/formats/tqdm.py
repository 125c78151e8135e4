"""Any program whose only clock is a tqdm bar: accelerate scripts, Lightning, home-made loops."""

from autotune.logs.format import LogFormat
from autotune.logs.formats._bars import BARS

FORMAT = LogFormat("tqdm", BARS, precedence=70, lock="bar_total")
