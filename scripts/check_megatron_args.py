"""Hold our legality rules against Megatron-LM's own parser, validator and configuration.

    scripts/check_megatron_args.py --megatron DIR [--space llama70b_tp_pp] [--limit N]

DIR is a checkout of Megatron-LM (core_v0.12 or later; `git archive TAG megatron pretrain_gpt.py`
is enough). Every legal config of the space is rendered and put through the real `parse_args`,
`validate_args`, `core_transformer_config_from_args`, micro-batch calculator and layer count:
none may be refused. Then a sample of what our rules exclude, one rule broken at a time, is put
through the same checks; what they accept all the same is listed with our reason for excluding it
(it fails later, when model or schedule are built, or it is another config under a second name).

The checks run in worker processes of `_megatron_probe.py`, which says what is stubbed there.
Exit 0 when no legal config was refused, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.space import Expression, LegalSet, Rule, SearchSpace, build_legal_set, load_space
from autotune.space.names import Rows

PROBE = Path(__file__).resolve().parent / "_megatron_probe.py"
MEGATRON = get_framework("megatron")


def argument_vector(space: SearchSpace, config: Config) -> list[str]:
    """The flags of a config as pretrain_gpt.py gets them."""
    context = RenderContext(trial_dir=Path("/trial"), simulated=True)
    argv = list(MEGATRON.render(space, config, context).argv)
    return argv[2 : argv.index("--sim-cluster")]


def probe(
    megatron: Path, world: int, vectors: Sequence[list[str]], workers: int
) -> list[str | None]:
    """What the real checks say of each argument vector: None accepted, else the refusal."""
    chunks = [vectors[start::workers] for start in range(workers)]

    def run(chunk: Sequence[list[str]]) -> list[str | None]:
        if not chunk:
            return []
        lines = "".join(json.dumps(vector) + "\n" for vector in chunk)
        done = subprocess.run(
            [sys.executable, str(PROBE), str(megatron), str(world)],
            input=lines, capture_output=True, text=True, check=False,
        )  # fmt: skip
        answers = [
            json.loads(line[6:]) for line in done.stdout.splitlines() if line[:6] == "PROBE "
        ]
        if len(answers) != len(chunk):
            raise SystemExit(f"the probe failed:\n{done.stderr[-3000:]}")
        return answers

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(run, chunks))
    answers: list[str | None] = [None] * len(vectors)
    for start, part in enumerate(parts):
        answers[start::workers] = part
    return answers


def check_legal(space: SearchSpace, legal: LegalSet, options: argparse.Namespace) -> int:
    """Put the legal set through; the number of refusals, printed with examples."""
    indices = list(range(len(legal)))
    if options.limit and options.limit < len(indices):
        indices = sorted(random.Random(0).sample(indices, options.limit))
    vectors = [argument_vector(space, legal.config(index)) for index in indices]
    answers = probe(options.megatron, space.cluster.world_size, vectors, options.workers)
    refusals = Counter(answer for answer in answers if answer is not None)
    print(f"legal: {len(indices):,} of {len(legal):,} checked, {refusals.total():,} refused")
    for text, count in refusals.most_common(10):
        example = legal.config(indices[answers.index(text)]).label
        print(f"  {count:,} x {text}\n    e.g. {example}")
    return refusals.total()


def check_excluded(space: SearchSpace, legal: LegalSet, options: argparse.Namespace) -> None:
    """For each rule, put points that break it through; print how many Megatron-LM refuses."""
    print(f"excluded: up to {options.sample} points for each rule, breaking it alone if they can")
    points = RandomPoints(space, legal.rules)
    chosen = [points.breaking(place, options.sample) for place in range(len(legal.rules))]
    vectors = [argument_vector(space, config) for configs in chosen for config in configs]
    answers = iter(probe(options.megatron, space.cluster.world_size, vectors, options.workers))
    for rule, configs in zip(legal.rules, chosen, strict=True):
        if not configs:
            continue
        told = [next(answers) for _ in configs]
        refusals = Counter(answer for answer in told if answer is not None)
        print(f"  {refusals.total():3d} of {len(told):3d} refused | {rule.origin}: {rule.reason}")
        for text, count in refusals.most_common(1):
            print(f"      {count} x {text}")
        accepted = [c for c, answer in zip(configs, told, strict=True) if answer is None]
        if accepted:
            print(f"      accepted there: {accepted[0].label}")


class RandomPoints:
    """Random points of a space, its conditions respected, and which rules each one meets."""

    def __init__(self, space: SearchSpace, rules: Sequence[Rule], draws: int = 400_000) -> None:
        self.space = space
        draw = np.random.default_rng(0)
        self.codes = {
            name: draw.integers(0, len(choices), draws) for name, choices in space.choices.items()
        }
        for name in space.order:
            when = space.parameters[name].when
            if when is not None:
                exists = Expression.parse(when).holds(Rows(space.names, self.codes))
                self.codes[name] = np.where(exists, self.codes[name], -1)
        rows = Rows(space.names, self.codes, lenient=True)
        met = [Expression.parse(rule.expression).met(rows) for rule in rules]
        self.met = np.stack([np.broadcast_to(column, (draws,)) for column in met])

    def breaking(self, place: int, wanted: int) -> list[Config]:
        """Points that break the rule at a place: those that break no other before the rest."""
        others = (~self.met).sum(axis=0)
        rows = np.flatnonzero(~self.met[place])
        rows = rows[np.argsort(others[rows], kind="stable")][:wanted]
        return [self._config(row) for row in rows.tolist()]

    def _config(self, row: int) -> Config:
        values = {
            name: None if self.codes[name][row] < 0 else choices[int(self.codes[name][row])]
            for name, choices in self.space.choices.items()
        }
        return Config(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Check one space against one Megatron-LM; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megatron", type=Path, required=True, help="checkout of Megatron-LM")
    parser.add_argument("--space", default="llama70b_tp_pp")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=int, help="check a random sample of the legal set")
    parser.add_argument("--sample", type=int, default=50, help="excluded points for each rule")
    parser.add_argument("--workers", type=int, default=2)
    options: Any = parser.parse_args(argv)
    if not (options.megatron / "megatron" / "training" / "arguments.py").is_file():
        parser.error(f"{options.megatron}: not a checkout of Megatron-LM")
    try:
        space = load_space(options.space, options.overrides)
        legal = build_legal_set(space, MEGATRON.rules(space))
    except BadInput as error:
        parser.error(str(error))
    print(f"{space.name} against {options.megatron}")
    refused = check_legal(space, legal, options)
    check_excluded(space, legal, options)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
