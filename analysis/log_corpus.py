"""Scores how well our parsers read a folder of real training logs whose labels are known.

    python analysis/log_corpus.py DIR [--json FILE]

DIR holds ``index.jsonl``: one JSON object a line with ``file`` (relative), ``expect`` (a
``status`` and figures, each the last value in the file) and perhaps ``accept`` (other statuses
that are right too). Prints the score by kind and every miss with its line; ``--json`` writes
everything so that anyone can score again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autotune.logs import EvidenceCollector, LogReader, Parser, SampleTally, diagnose, get_format
from autotune.logs.stall import StallWatch
from autotune.logs.tally import is_measured
from autotune.trial import Outcome, StepSample

TOLERANCE = 0.01
CHUNK = 1 << 16

LABELS = {
    "gpu_hw": "crash",
    "disk_full": "crash",
    "port": "crash",
    "shm": "crash",
    "missing": "crash",
    "config": "config_invalid",
    "time_limit": "timeout",
    "sigterm": "preempted",
    "cancelled": "preempted",
    "stopped": "preempted",
    "died": "crash",
    "killed": "oom_host",
}
"""Our kind of evidence -> the coarser label of the corpus, where the two differ."""

EQUIVALENT = {
    "crash": {"user_error", "incomplete"},
    "nccl": {"infra"},
    "node_fail": {"infra"},
    "preempted": {"infra", "cancelled"},
    "nan": {"nan_loss"},
    "config_invalid": {"invalid_config"},
}
"""Expected label -> outcomes of ours that mean the same."""

FIGURES = {
    "step_time_s": ("seconds", "secondary_step_time_s"),
    "loss": ("loss", "secondary_loss"),
    "samples_per_s": (
        "running_samples_per_s",
        "samples_per_s",
        "summary_samples_per_s",
        "secondary_samples_per_s",
    ),
    "tokens_per_s": ("tokens_per_s", "summary_tokens_per_s"),
    "tokens_per_s_per_gpu": ("tokens_per_s_per_gpu",),
    "tflops_per_gpu": ("tflops_per_gpu",),
    "mfu": ("mfu",),
    "mem_gb": ("printed_memory_gb", "memory_gib"),
    "val_loss": ("val_loss",),
    "last_iteration": ("step",),
}
"""Figure of the corpus -> where it stands in our samples, the most trusted first."""


@dataclass
class Reading:
    """What we take from one log: a status in the corpus's words, ours, why, and the figures."""

    file: str
    status: str
    outcome: str
    reason: str
    figures: dict[str, float] = field(default_factory=dict)
    formats: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_log(path: Path, name: str) -> Reading:
    """Reads a log file as a stream, with no knowledge of what program wrote it."""
    reader, parser = LogReader(), Parser(get_format("auto"))
    evidence, tally, stall = EvidenceCollector(), SampleTally(), StallWatch()
    samples: list[StepSample] = []
    formats: dict[str, None] = {}
    number = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(CHUNK)
            for line in reader.feed(chunk) if chunk else reader.close():
                number += 1
                found = parser.feed(line, float(number))
                evidence.feed(line, 0, float(number))
                stall.feed(line, any(map(is_measured, found)))
                samples += found
                for sample in found:
                    tally.feed(sample)
                if parser.matched:
                    formats[parser.matched] = None
            if not chunk:
                break
    for sample in parser.finish():
        tally.feed(sample)
        samples.append(sample)
    figures = last_figures(samples)
    verdict = diagnose(None, evidence, tally, min_steps=0)
    status, reason = corpus_status(verdict.outcome, evidence, tally), verdict.reason
    if status == "ok" and stall.stalled(figures.get("step_time_s")):
        status, reason = "hang", f"no step while heartbeats went on for {stall.silent_s:.0f} s"
    outcome = status if status == "hang" else verdict.outcome.value
    return Reading(name, status, outcome, reason, figures, list(formats), parser.notes)


def corpus_status(outcome: Outcome, evidence: EvidenceCollector, tally: SampleTally) -> str:
    """The corpus's word for a verdict."""
    found = evidence.decisive(tally)
    if found is not None:
        return LABELS.get(found.kind, found.kind)
    return {Outcome.NAN_LOSS: "nan", Outcome.INCOMPLETE: "crash"}.get(outcome, outcome.value)


def last_figures(samples: list[StepSample]) -> dict[str, float]:
    """The last value of every figure; a figure's less trusted sources only where alone."""
    figures: dict[str, float] = {}
    for figure, names in FIGURES.items():
        primary = [name for name in names if not name.startswith(("secondary", "summary"))]
        fallback = [name for name in names if name not in primary]
        for sources in (primary, *([name] for name in fallback)):
            values = [value for one in samples if (value := _value(one, sources)) is not None]
            if values:
                figures[figure] = values[-1]
                break
    return figures


def _value(sample: StepSample, names: list[str]) -> float | None:
    for name in names:
        value = sample.extra.get(name, getattr(sample, name, None))
        if value is not None and not (name == "step" and _only_beside(sample)):
            return float(value)
    return None


def _only_beside(sample: StepSample) -> bool:
    return not is_measured(sample) and sample.loss is None and not sample.skipped


def score(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Reads every log of the index and compares it with its label."""
    rows = []
    for record in records:
        expect = record["expect"]
        reading = read_log(folder / record["file"], record["file"])
        right = is_right(reading, expect["status"], record.get("accept", ()))
        wanted = {name: value for name, value in expect.items() if name != "status"}
        rows.append(
            {
                **asdict(reading),
                "kind": record["file"].split("/")[0],
                "expect": expect,
                "accept": list(record.get("accept", ())),
                "status_right": right,
                "figures_right": {n: agrees(reading.figures.get(n), v) for n, v in wanted.items()},
            }
        )
    checks = [right for row in rows for right in row["figures_right"].values()]
    return {
        "status_right": sum(row["status_right"] for row in rows),
        "status_total": len(rows),
        "figures_right": sum(checks),
        "figures_total": len(checks),
        "failures_read_as_ok": sum(
            row["status"] == "ok" and "ok" not in (row["expect"]["status"], *row["accept"])
            for row in rows
        ),
        "rows": rows,
    }


def is_right(reading: Reading, expected: str, accept: Any) -> bool:
    """Whether the status, or our finer outcome, is the expected label or one that is accepted."""
    allowed = {expected, *accept} | EQUIVALENT.get(expected, set())
    return reading.status in allowed


def agrees(value: float | None, expected: float) -> bool:
    """Within 1% of the label (both not finite counts as agreement)."""
    if value is None:
        return False
    if not math.isfinite(expected) or not math.isfinite(value):
        return math.isfinite(expected) == math.isfinite(value)
    return abs(value - expected) <= TOLERANCE * abs(expected)


def print_score(result: Mapping[str, Any]) -> None:
    """The score by kind, then every miss with the line that decided it."""
    rows = result["rows"]
    print(f"{'kind':<20}{'status':>10}{'figures':>10}")
    for kind in sorted({row["kind"] for row in rows}):
        mine = [row for row in rows if row["kind"] == kind]
        status = sum(row["status_right"] for row in mine)
        checks = [right for row in mine for right in row["figures_right"].values()]
        print(f"{kind:<20}{status:>6}/{len(mine):<3}{sum(checks):>6}/{len(checks):<3}")
    for row in rows:
        if not row["status_right"]:
            expected = row["expect"]["status"]
            print(f"MISS {row['file']}: {row['status']}, expected {expected}: {row['reason']}")
        for name, right in row["figures_right"].items():
            if not right:
                got, expected = row["figures"].get(name), row["expect"][name]
                print(f"MISS {row['file']}: {name} {got}, expected {expected}")
    print(
        f"status {result['status_right']}/{result['status_total']}, "
        f"figures {result['figures_right']}/{result['figures_total']}, "
        f"failures read as ok: {result['failures_read_as_ok']}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when every log could be read; 2 where the folder or its index cannot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    index = options.folder / "index.jsonl"
    try:
        text = index.read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
        result = score(options.folder, records)
    except (OSError, json.JSONDecodeError, KeyError) as error:
        print(f"{index}: cannot be read: {error!r}", file=sys.stderr)
        return 2
    print_score(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
