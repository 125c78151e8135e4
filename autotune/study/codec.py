"""TrialRecord to JSON and back, so that files and storage hold the same words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from autotune.trial import Interval, Measurement, Outcome, Prediction, TrialRecord


def record_to_json(record: TrialRecord) -> dict[str, Any]:
    """A JSON object without NaN or infinities (they become null)."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(_unfrozen(record)))
    return plain


def _unfrozen(record: TrialRecord) -> TrialRecord:
    return dataclasses.replace(record, values=dict(record.values))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Outcome):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def record_from_json(data: dict[str, Any]) -> TrialRecord:
    """The record of a JSON object; ValueError when it is not one of ours.

    Keys that a later version added are ignored, missing ones take their defaults.
    """
    try:
        known = _known(TrialRecord, data)
        known["prediction"] = Prediction(**_known(Prediction, data.get("prediction") or {}))
        measured = data.get("measurement")
        known["measurement"] = measurement_from_json(measured) if measured else None
        if known.get("outcome") is not None:
            known["outcome"] = Outcome(known["outcome"])
        for name in ("evidence", "parameters_named", "nodes", "doubts"):
            known[name] = tuple(str(item) for item in known.get(name) or ())
        known["gpus"] = tuple(dict(gpu) for gpu in known.get("gpus") or ())
        return TrialRecord(**known)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a trial record: {error}") from error


def measurement_from_json(data: dict[str, Any]) -> Measurement:
    """A measurement from its JSON object."""
    known = _known(Measurement, data)
    for name in ("step_time_s", "tokens_per_s", "objective", "sample_time_s"):
        if known.get(name) is not None:
            known[name] = Interval(**known[name])
    known["first_losses"] = tuple(
        math.nan if loss is None else float(loss) for loss in known.get("first_losses") or ()
    )
    known["notes"] = tuple(known.get("notes") or ())
    return Measurement(**known)


def _known(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in data.items() if name in names}
