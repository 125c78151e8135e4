"""A study as JSON and as tables: what status, best and the end of a run print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune import figures
from autotune.search.finalists import breaks_parity
from autotune.trial import Outcome, TrialRecord

if TYPE_CHECKING:
    from rich.table import Table

    from autotune.controller.standing import Result, Standing


def trial_json(record: TrialRecord) -> dict[str, Any]:
    """One trial for a program: stable keys, nulls where nothing was measured."""
    measured = record.measurement if record.outcome is Outcome.OK else None
    return {
        "number": record.number,
        "kind": record.kind,
        "fidelity": record.fidelity,
        "seed": record.seed,
        "params": dict(record.values),
        "outcome": record.outcome.value if record.outcome else None,
        "reason": record.outcome_reason or record.reason,
        "chosen_because": record.reason,
        "tokens_per_s": measured.tokens_per_s.value if measured and measured.tokens_per_s else None,
        "true_tokens_per_s": measured.true_tokens_per_s if measured else None,
        "objective": measured.objective.value if measured and measured.objective else None,
        "step_time_s": measured.step_time_s.value if measured else None,
        "sample_time_s": (
            measured.sample_time_s.value if measured and measured.sample_time_s else None
        ),
        "eval_loss": record.measurement.eval_loss if record.measurement else None,
        "perplexity": record.measurement.perplexity if record.measurement else None,
        "peak_memory_gib": measured.peak_memory_gib if measured else None,
        "seconds": record.seconds,
        "gpu_seconds": record.gpu_seconds,
        "stopped_early": measured.stopped_early if measured else False,
        "ran_to_end": record.ran_to_end,
        "attempt": record.attempt,
        "simulated": record.simulated,
        "evidence": list(record.evidence),
        "notes": list(record.measurement.notes) if record.measurement else [],
    }


def status_json(name: str, records: Sequence[TrialRecord], ended: str | None) -> dict[str, Any]:
    """A study for a program."""
    return {
        "study": name,
        "ended": ended,
        "simulated": any(record.simulated for record in records),
        "counts": counts(records),
        "gpu_hours": sum(record.gpu_seconds for record in records) / 3600,
        "trials": [trial_json(record) for record in records],
    }


def best_json(name: str, found: Result, metric: str) -> dict[str, Any]:
    """The winner for a program; nulls where there is none."""
    winner, baseline = found.winner, found.baseline
    tokens = _tokens(winner.record) if winner else None
    return {
        "study": name,
        "trial": winner.record.number if winner else None,
        "trials_pooled": list(winner.numbers) if winner else [],
        "params": dict(winner.values) if winner else None,
        "outcome": winner.record.outcome.value if winner and winner.record.outcome else None,
        "metric": metric,
        "objective": _span(winner.objective) if winner else None,
        "baseline_objective": _span(baseline.objective) if baseline else None,
        "tokens_per_s": winner.objective.value if winner and metric == "tokens_per_s" else tokens,
        "baseline_tokens_per_s": (
            baseline.objective.value
            if baseline and metric == "tokens_per_s"
            else _tokens(baseline.record)
            if baseline
            else None
        ),
        "gain": found.gain.value if found.gain else None,
        "gain_interval": _span(found.gain) if found.gain else None,
        "ties": [list(tie.numbers) for tie in found.ties],
        "seeds": winner.turns if winner and winner.reached is not None else None,
        "seeds_reached": winner.reached if winner else None,
        "perplexity": (
            winner.record.measurement.perplexity if winner and winner.record.measurement else None
        ),
        "without_opt_ins": _other(found.unchanged) if found.unchanged else None,
        "simulated": bool(winner and winner.record.simulated),
    }


def _other(standing: Standing) -> dict[str, Any]:
    return {
        "trial": standing.record.number,
        "trials_pooled": list(standing.numbers),
        "params": dict(standing.values),
        "objective": _span(standing.objective),
    }


def _tokens(record: TrialRecord) -> float | None:
    measured = record.measurement
    return measured.tokens_per_s.value if measured and measured.tokens_per_s else None


def _span(value: Any) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}


def counts(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials ended in each outcome; running ones under ``running``."""
    found = Counter(str(r.outcome) if r.outcome else "running" for r in records)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def trial_table(
    records: Sequence[TrialRecord], metric: str, baseline: Mapping[str, Any] | None = None
) -> Table:
    """Trials with their figures, outcome and reason, for 80 columns and more."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("config", overflow="fold", max_width=30)
    table.add_column(figures.unit(metric), justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("why", overflow="fold")
    for record in records:
        table.add_row(
            str(record.number),
            figures.label(record, baseline),
            figures.cell(record),
            outcome_text(record),
            figures.why(record) or record.reason,
        )
    return table


def pareto_table(
    front: Sequence[TrialRecord], metric: str, baseline: Mapping[str, Any] | None = None
) -> Table:
    """The front of tokens/s against peak memory, fastest first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    other = [metric] if metric != "tokens_per_s" else []
    for name in ("#", "tokens/s", "peak memory GiB", *map(figures.unit, other)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("config", overflow="fold")
    table.add_column("outcome", no_wrap=True)
    for record in front:
        measured = record.measurement
        assert measured is not None
        table.add_row(
            str(record.number),
            figures.interval(measured.tokens_per_s),
            figures.number(measured.peak_memory_gib),
            *(figures.interval(measured.objective) for _ in other),
            figures.label(record, baseline),
            outcome_text(record),
        )
    return table


def baseline_values(records: Sequence[TrialRecord]) -> Mapping[str, Any] | None:
    """The baseline's parameters; None before it was chosen."""
    return next((record.values for record in records if record.kind == "baseline"), None)


STYLES = {Outcome.OK: "green", Outcome.OOM_GPU: "yellow", Outcome.CANCELLED: "dim"}


def outcome_text(record: TrialRecord) -> Any:
    """The outcome, coloured; an early stop is said, and a loss that left the baseline's."""
    from rich.text import Text

    if record.outcome is None:
        return Text("running", style="cyan")
    early = record.measurement is not None and record.measurement.stopped_early
    if record.outcome is Outcome.OK and breaks_parity(record):
        return Text("ok, not a winner", style="yellow")
    words = "ok (early)" if record.outcome is Outcome.OK and early else str(record.outcome)
    return Text(words, style=STYLES.get(record.outcome, "red"))


def beside(found: Result, metric: str) -> list[str]:
    """What is said beside the winner: how its seeds were scored, the best without opt-ins."""
    lines = []
    winner = found.winner
    if winner is not None and winner.reached is not None:
        said = figures.seeds(winner.reached, winner.turns)
        measured = winner.record.measurement
        if measured is not None and measured.perplexity is not None:
            said += f"; perplexity {figures.number(measured.perplexity)} at the end"
        lines.append(f"Scored over seeds: {said}.")
    return lines + without_opt_ins(found, metric)


def without_opt_ins(found: Result, metric: str) -> list[str]:
    """The best that leaves what the space opted in as it is; nothing where it opts nothing in."""
    winner, unchanged = found.winner, found.unchanged
    if winner is None or unchanged is None:
        return []
    if unchanged.config_hash == winner.config_hash:
        return ["It learns as the baseline does."]
    return [
        f"The best that changes nothing opted in: trial {unchanged.record.number}, "
        f"{figures.interval(unchanged.objective)} {figures.unit(metric)}."
    ]
