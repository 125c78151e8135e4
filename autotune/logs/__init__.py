"""Reads what training programs print: bytes to lines, lines to samples, evidence to outcome.

bytes --LogReader--> lines --Parser(format)--> StepSample*
                       `----EvidenceCollector--> evidence --diagnose--> Diagnosis
"""

from autotune.logs.diagnose import SampleTally, diagnose
from autotune.logs.evidence import EvidenceCollector, Finding
from autotune.logs.format import LinePattern, LogFormat
from autotune.logs.formats import get_format, known_formats
from autotune.logs.metric import format_from_metric
from autotune.logs.parser import Parser
from autotune.logs.reader import LogReader
from autotune.logs.scanner import Scanner

__all__ = [
    "EvidenceCollector",
    "Finding",
    "LinePattern",
    "LogFormat",
    "LogReader",
    "Parser",
    "SampleTally",
    "Scanner",
    "diagnose",
    "format_from_metric",
    "get_format",
    "known_formats",
]
