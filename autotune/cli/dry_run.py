"""`autotune run --dry-run`: what the first trial would be, to the last flag; starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.cli import console

if TYPE_CHECKING:
    from autotune.controller import Setting

PLACEHOLDER = Path("/TRIAL_DIR")


def show_dry_run(setting: Setting, as_json: bool) -> None:
    """Legal count, exclusions, files, command, environment with the source of each value."""
    from autotune.controller.write_job import shown_environment

    job = setting.render(setting.baseline(), PLACEHOLDER)
    document: dict[str, Any] = {
        "space": setting.space.name,
        "simulated": setting.options.simulated,
        "legal": len(setting.legal),
        "points": setting.legal.raw_points,
        "likely_to_fit": _likely_to_fit(setting),
        "excluded": [
            {"rule": rule.expression, "reason": rule.reason, "origin": rule.origin, "count": count}
            for rule, count in setting.legal.exclusions
        ],
        "first": {"params": dict(setting.baseline().values), "why": "the baseline, measured first"},
        "command": list(job.argv),
        "started_per": job.per,
        "cwd": job.cwd,
        "environment": shown_environment(job.env),
        "sources": dict(job.sources),
        "files": dict(job.files),
    }
    if as_json:
        console.print_json(document)
        return
    _print(document)


def _likely_to_fit(setting: Setting) -> int | None:
    """Of the legal configs, as predicted; None where nothing can be."""
    from autotune.costmodel.plan import LIKELY

    model = setting.cost_model
    if model is None:
        return None
    costs = model.prepare(setting.legal.columns()).predict()
    return int((costs.probability_fits(model.capacity_gib) >= LIKELY).sum())


def _print(document: dict[str, Any]) -> None:
    import shlex

    print(
        f"{document['space']}: {document['legal']:,} legal configs of {document['points']:,} points"
    )
    if document["likely_to_fit"] == 0:
        print(
            "none of them is likely to fit into the GPUs' memory (predicted; `autotune plan` says "
            "what needs it): contract, cluster or parameters may ask for too much"
        )
    if document["simulated"]:
        print("would run on the simulated cluster (no GPU here, or --simulate)")
    for item in document["excluded"]:
        why = item["reason"] or item["rule"]
        print(f"  {item['count']:>12,} excluded by {item['origin']}: {why}")
    print(f"\nFirst trial ({document['first']['why']}):")
    for name, value in document["first"]["params"].items():
        print(f"  {name} = {value}")
    print(f"\nCommand (once per {document['started_per']}), in {document['cwd'] or PLACEHOLDER}:")
    print("  " + shlex.join(document["command"]))
    print("\nWhere each value comes from:")
    for name, source in document["sources"].items():
        print(f"  {name}: {source}")
    print("\nEnvironment:")
    for name, value in sorted(document["environment"].items()):
        print(f"  {name}={value}")
    for name, text in document["files"].items():
        print(f"\nFile {PLACEHOLDER}/{name}:")
        print("\n".join("  " + line for line in text.splitlines()))
    print("\nNothing was started.")
