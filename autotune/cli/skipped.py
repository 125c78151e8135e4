"""What `autotune explain --skipped` and `--rules` say: why a config was never run.

A space has millions of points, so rows are told one after another and never held together;
illegal points are counted by the rule that excludes them, as nobody could read them one by one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from autotune.config import Config
from autotune.errors import BadInput
from autotune.search.proposal import Skipped, SkipReason

if TYPE_CHECKING:
    from autotune.controller import Setting
    from autotune.search.regions import FailingRule
    from autotune.study.record import Study

ILLEGAL = "illegal"
EXAMPLES = 5


def kinds() -> tuple[str, ...]:
    """The reasons that `--kind` knows."""
    return (ILLEGAL, *get_args(SkipReason))


def print_skipped(
    study: Study,
    setting: Setting,
    kind: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    as_json: bool = False,
) -> None:
    """Every config never run, with its reason: a summary, or the rows of one ``kind``.

    JSON is one array, a row a line, written while it is computed. BadInput for an unknown kind.
    """
    if kind is not None and kind not in kinds():
        raise BadInput.unknown("kind", kind, kinds(), where="--kind")
    if as_json:
        _stream_json(islice(_rows(study, setting, kind), offset, _end(offset, limit)))
    elif kind is not None:
        _page(islice(_rows(study, setting, kind), offset, _end(offset, limit)))
    else:
        _summary(study, setting, EXAMPLES if limit is None else limit)


def _end(offset: int, limit: int | None) -> int | None:
    return None if limit is None else offset + limit


def _rows(study: Study, setting: Setting, kind: str | None) -> Iterator[dict[str, Any]]:
    """Illegal points by rule, then each legal config that was not run."""
    if kind in (None, ILLEGAL):
        yield from _illegal(setting)
    if kind == ILLEGAL:
        return
    for item in _skipped(study, setting):
        if kind in (None, item.kind):
            yield {**item.__dict__, "config": label(setting, item.index)}


def _illegal(setting: Setting) -> Iterator[dict[str, Any]]:
    for rule, count in setting.legal.exclusions:
        if count:
            yield {
                "kind": ILLEGAL,
                "count": count,
                "rule": rule.expression,
                "reason": rule.reason or rule.expression,
                "origin": rule.origin,
            }


def _skipped(study: Study, setting: Setting) -> Iterator[Skipped]:
    return setting.proposer.skipped([record for record in study.records() if record.finished])


def label(setting: Setting, index: int) -> str:
    """A legal config's short name, without the sizes that follow from it."""
    legal = setting.legal
    codes = zip(legal.names, legal.codes[index].tolist(), strict=True)
    return Config({name: legal.choices[name][code] for name, code in codes if code >= 0}).label


def _stream_json(rows: Iterator[dict[str, Any]]) -> None:
    before = "[\n"
    for row in rows:
        sys.stdout.write(before + json.dumps(row, default=str))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _line(row: dict[str, Any]) -> str:
    if row["kind"] == ILLEGAL:
        return f"{row['count']:>12,} {row['origin']}: {row['reason']}"
    witness = f" (trial {row['witness']})" if row["witness"] is not None else ""
    return f"  {row['config']}: {row['reason']}{witness}"


def _page(rows: Iterator[dict[str, Any]]) -> None:
    """One line a config; a terminal gets its pager, which asks for rows as it shows them."""
    import click

    lines = (_line(row) + "\n" for row in rows)
    if sys.stdout.isatty():
        click.echo_via_pager(lines)
    else:
        sys.stdout.writelines(lines)


def _summary(study: Study, setting: Setting, examples: int) -> None:
    legal = setting.legal
    illegal = list(_illegal(setting))
    print(f"{legal.raw_points - len(legal):,} of {legal.raw_points:,} points are illegal:")
    print("\n".join(_line(row) for row in illegal))
    counts: Counter[str] = Counter()
    shown: dict[str, list[str]] = {}
    for item in _skipped(study, setting):
        counts[item.kind] += 1
        lines = shown.setdefault(item.kind, [])
        if len(lines) < examples:
            lines.append(_line({**item.__dict__, "config": label(setting, item.index)}))
    print(f"{sum(counts.values()):,} of {len(legal):,} legal configs were not run:")
    for kind, count in counts.most_common():
        print(f"{count:>12,} {kind}")
        print("\n".join(shown[kind]))
        if count > len(shown[kind]):
            print(f"  ... {count - len(shown[kind]):,} more: --kind '{kind}'")
    rules = failing_rules(study, setting)
    if rules:
        print("\nWhat failures taught:")
        print("\n".join(rule_line(rule) for rule in rules))


def print_rules(study: Study, setting: Setting, as_json: bool) -> None:
    """Every rule that a failure taught: its witness, how far it reaches, its audit, its end."""
    from autotune.cli import console

    rules = failing_rules(study, setting)
    if as_json:
        names = setting.legal.names
        rows = [
            {
                "kind": rule.kind,
                "witness": rule.witness,
                "config": label(setting, rule.row),
                "reason": rule.reason,
                "rules_out": rule.count,
                "parameters": [names[position] for position in rule.parameters],
                "active": rule.active,
                "audited_by": rule.audited_by,
                "withdrawn_by": rule.withdrawn_by,
            }
            for rule in rules
        ]
        console.print_json(rows)
    elif rules:
        print("\n".join(rule_line(rule) for rule in rules))
    else:
        print("No trial ran out of memory or was refused, so no rule was learned.")


def failing_rules(study: Study, setting: Setting) -> list[FailingRule]:
    """The rules that follow from a study's trials, whichever sampler chose them."""
    from autotune.search.regions import FailingRegions

    regions = FailingRegions(setting.legal)
    for record in study.records():
        row = setting.legal.find(record.values)
        if record.finished and row is not None:
            regions.update([(record, row)])
    return regions.rules


def rule_line(rule: FailingRule) -> str:
    """A rule in one line: what it rules out, by which trial, and how it fared since."""
    if rule.withdrawn_by is not None:
        state = f"withdrawn: trial {rule.withdrawn_by} ran inside it"
    elif rule.audited_by is not None:
        state = f"audited: trial {rule.audited_by} failed inside it too"
    else:
        state = "not audited"
    return f"  {rule.kind}: {rule.reason}; rules out {rule.count:,} more configs; {state}"
