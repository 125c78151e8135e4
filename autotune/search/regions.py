"""What a failure rules out besides itself, with the trial that proves it.

Out of memory at one config rules out every config that shares its structure and needs at least
as much along every axis on which memory is monotone. An invalid config rules out those that
share all values its message names. Every rule keeps its witness; a run that succeeds inside a
rule withdraws it. Nothing is ever inferred about speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autotune.config import ParameterValue
from autotune.search.proposal import LegalRows
from autotune.trial import SMALLER, Outcome, TrialRecord

BoolArray = NDArray[np.bool_]
Kind = Literal["memory", "legality"]
KINDS: tuple[Kind, ...] = ("memory", "legality")

MORE_IS_MORE = frozenset(
    {"micro_batch_size", "overlap_comm", "reduce_bucket_size", "allgather_bucket_size"}
)
"""Parameters along which memory never falls, the rest equal."""

MORE_IS_LESS = frozenset(
    {
        "tensor_model_parallel_size",
        "context_parallel_size",
        "expert_model_parallel_size",
        "zero_stage",
        "sequence_parallel",
        "use_distributed_optimizer",
        "optimizer_cpu_offload",
        "offload_optimizer",
        "offload_param",
        "offload_parameters",
        "cpu_offloading",
        "activation_checkpointing",
        "gradient_checkpointing",
        "empty_unused_memory_level",
    }
)
"""Parameters along which memory never rises on a fixed number of GPUs, the rest equal."""

NEUTRAL = frozenset({"overlap_grad_reduce", "overlap_param_gather"})
"""Parameters that move no memory worth naming: Megatron-LM reduces and gathers in buffers that
stand either way."""

KEPT_ACTIVATIONS = {"full": 0, "selective": 1, "none": 2}
RECOMPUTE = "recompute_granularity"
RECOMPUTE_DETAILS = frozenset({"recompute_method", "recompute_num_layers"})
DERIVED = {
    "data_parallel_size": (
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
        "context_parallel_size",
    ),
    "gradient_accumulation_steps": (
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
        "context_parallel_size",
        "micro_batch_size",
    ),
}
"""Sizes that follow from others: a message that names one means those."""


@dataclass(frozen=True)
class FailingRule:
    """What one trial rules out: ``count`` rows besides its own ``row``.

    ``parameters`` are the positions of the parameters that a refusal named. ``audited_by`` is a
    trial inside the rule that failed as foretold, ``withdrawn_by`` one that ran.
    """

    kind: Kind
    witness: int
    row: int
    reason: str
    count: int
    parameters: tuple[int, ...] = ()
    audited_by: int | None = None
    withdrawn_by: int | None = None

    @property
    def active(self) -> bool:
        """Whether it still rules anything out."""
        return self.withdrawn_by is None


class FailingRegions:
    """The rules that follow from a study's trials, over the rows of one legal set."""

    def __init__(self, legal: LegalRows) -> None:
        self.legal = legal
        self.rules: list[FailingRule] = []
        self._told: set[int] = set()
        self._ran: list[tuple[int, int]] = []
        self._axes, self._structure = _memory_axes(legal)
        self._excluded: dict[Kind, NDArray[np.int32]] = {
            kind: np.full(len(legal), -1, dtype=np.int32) for kind in KINDS
        }

    def update(self, trials: Iterable[tuple[TrialRecord, int]]) -> None:
        """Learns from finished trials not seen before, each with its row in the legal set."""
        for record, row in trials:
            if record.outcome is None or record.number in self._told:
                continue
            self._told.add(record.number)
            if record.outcome is Outcome.OK and record.fidelity not in SMALLER:
                self._ran.append((record.number, row))
                self._withdraw(record.number, row)
            elif record.outcome is Outcome.OOM_GPU:
                self._learn_memory(record.number, row)
            elif record.outcome is Outcome.INVALID_CONFIG:
                self._learn_legality(record, row)

    def excluded(self, kind: Kind) -> NDArray[np.int32]:
        """For each row the position in ``rules`` of an active rule of this kind, else -1."""
        return self._excluded[kind]

    def rows_of(self, rule: FailingRule) -> BoolArray:
        """The rows (n,) that a rule speaks of, its own included."""
        if rule.kind == "memory":
            return self.dominated_by(rule.row)
        rows = np.arange(len(self.legal)) == rule.row
        if rule.parameters:
            codes = self.legal.codes[:, list(rule.parameters)]
            rows |= (codes == codes[rule.row]).all(axis=1)
        return np.asarray(rows)

    def dominated_by(self, row: int) -> BoolArray:
        """Rows (n,) that need at least as much memory as ``row`` and share its structure."""
        same = np.ones(len(self.legal), dtype=bool)
        for column, only_with in self._structure:
            equal = column == column[row]
            same &= equal if only_with is None else equal | (only_with != only_with[row])
        for column in self._axes:
            same &= column >= column[row]
        return same

    def _learn_memory(self, number: int, row: int) -> None:
        position = int(self._excluded["memory"][row])
        if position < 0:
            reason = f"needs at least as much memory as trial {number}, which ran out of it"
            self._add(FailingRule("memory", number, row, reason, 0))
        elif self.rules[position].audited_by is None:
            self.rules[position] = replace(self.rules[position], audited_by=number)

    def _learn_legality(self, record: TrialRecord, row: int) -> None:
        names: set[str] = set()
        for name in record.parameters_named:
            names.update(DERIVED.get(name, (name,)))
        if names.intersection(self.legal.names):
            names.add("framework")  # where it is searched, another one refuses other things
        positions = tuple(k for k, name in enumerate(self.legal.names) if name in names)
        reason = f"trial {record.number} was refused by the framework"
        if positions:
            reason += " over " + ", ".join(
                f"{self.legal.names[k]}={_shown(self.legal, k, row)}" for k in positions
            )
        self._add(FailingRule("legality", record.number, row, reason, 0, positions))

    def _add(self, rule: FailingRule) -> None:
        """Keeps a rule, withdrawn at once where an earlier success already disproves it."""
        rows = self.rows_of(rule)
        disproof = next((number for number, row in self._ran if rows[row]), None)
        self.rules.append(replace(rule, count=int(rows.sum()) - 1, withdrawn_by=disproof))
        if disproof is None:
            self._mark(len(self.rules) - 1, rows)

    def _mark(self, position: int, rows: BoolArray) -> None:
        found = self._excluded[self.rules[position].kind]
        found[rows & (found < 0)] = position

    def _withdraw(self, number: int, row: int) -> None:
        """Drops the rules that a success at ``row`` disproves, and marks anew what is left."""
        if all(found[row] < 0 for found in self._excluded.values()):
            return
        for found in self._excluded.values():
            found[:] = -1
        for position, rule in enumerate(self.rules):
            if not rule.active:
                continue
            rows = self.rows_of(rule)
            if rows[row]:
                self.rules[position] = replace(rule, withdrawn_by=number)
            else:
                self._mark(position, rows)


def _shown(legal: LegalRows, position: int, row: int) -> ParameterValue:
    code = int(legal.codes[row, position])
    return None if code < 0 else legal.choices[legal.names[position]][code]


_Structure = list[tuple[NDArray[np.int64], "NDArray[np.int64] | None"]]


def _memory_axes(legal: LegalRows) -> tuple[list[NDArray[np.int64]], _Structure]:
    """Columns that grow with memory, and columns that must be equal for a comparison to hold.

    A structure column may hold only among rows of equal recompute granularity: the details of
    full recompute say nothing where there is none.
    """
    axes: list[NDArray[np.int64]] = []
    structure: _Structure = []
    granularity: NDArray[np.int64] | None = None
    for position, name in enumerate(legal.names):
        if name == RECOMPUTE:
            granularity = _ranked(legal, position, _kept_rank(legal.choices[name]))
            axes.append(granularity)
    for position, name in enumerate(legal.names):
        codes = np.asarray(legal.codes[:, position], dtype=np.int64)
        if name in (RECOMPUTE, "data_parallel_size") or name in NEUTRAL:
            continue
        if name in MORE_IS_MORE or name in MORE_IS_LESS:
            ranks = _value_rank(legal.choices[name], -1 if name in MORE_IS_LESS else 1)
            if ranks is not None:
                axes.append(_ranked(legal, position, ranks))
                structure.append(((codes >= 0).astype(np.int64), None))
                continue
        structure.append((codes, granularity if name in RECOMPUTE_DETAILS else None))
    return axes, structure


def _kept_rank(choices: Sequence[ParameterValue]) -> list[int]:
    return [KEPT_ACTIVATIONS.get(str(value).lower(), 2) for value in choices]


def _value_rank(choices: Sequence[ParameterValue], sign: int) -> list[int] | None:
    """Position of each choice in ascending order of memory; None where values have no order."""
    if not all(isinstance(value, (bool, int, float)) for value in choices if value is not None):
        return None
    order = sorted({float(value) for value in choices if value is not None})
    return [0 if value is None else sign * order.index(float(value)) for value in choices]


def _ranked(legal: LegalRows, position: int, ranks: list[int]) -> NDArray[np.int64]:
    """The rank of each row's value; an inactive recompute keeps everything."""
    inactive = 2 if legal.names[position] == RECOMPUTE else 0
    return np.array([*ranks, inactive], dtype=np.int64)[legal.codes[:, position]]
