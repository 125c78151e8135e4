"""The record of a study: Optuna's storage is the one truth, a folder beside it holds the files.

Each trial is created as one RUNNING row that already carries parameters, kind and reason, and
is told with one result attribute, its constraint, and its state: few, short transactions.
What a row holds is ``rows.py``'s.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import autotune
from autotune.config import Config
from autotune.errors import BadInput
from autotune.study.codec import record_to_json
from autotune.study.constraints import constraint_attributes
from autotune.study.intents import Intent
from autotune.study.lease import Lease, lease_store
from autotune.study.paths import (
    EMBEDDED,
    StudyPaths,
    make_private_folder,
    read_json,
    write_atomically,
)
from autotune.study.rows import INTENT, RESULT, intent_of, record_of, told_state, trial_template
from autotune.study.storage import (
    StorageAway,
    close_storage,
    open_storage,
    redact_url,
    storage_errors,
)
from autotune.trial import Fidelity, Prediction, TrialKind, TrialRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FORMAT = 1
UNNUMBERED = -1


class Study:
    """One study, opened; all its records in memory, every change written through."""

    def __init__(self, paths: StudyPaths, settings: dict[str, Any], url: str) -> None:
        self.paths = paths
        self.settings = settings
        self.url = url
        self.storage: BaseStorage = open_storage(url)
        self.lease: Lease | None = None
        self._records: dict[int, TrialRecord] = {}
        self._trial_ids: dict[int, int] = {}
        self._intents: dict[int, Intent] = {}
        self._study_id = self._find_or_create()

    # -- opening

    @classmethod
    def create(
        cls, paths: StudyPaths, space_yaml: str, settings: Mapping[str, Any], url: str | None = None
    ) -> Study:
        """Start a study; BadInput when its name is taken or its folder cannot be made."""
        if paths.exists():
            raise BadInput(
                f"study {paths.name!r} exists already. `autotune resume {paths.name}` goes on with "
                "it; give another --study NAME to start afresh."
            )
        make_private_folder(paths.folder)
        make_private_folder(paths.trials)
        stored = redact_url(url) if url else EMBEDDED
        url = url or f"sqlite:///{paths.database}"
        complete = {
            "format": FORMAT,
            "name": paths.name,
            "version": autotune.__version__,
            "storage": stored,
            **settings,
        }
        study = cls(paths, complete, url)
        if study.load():
            raise BadInput(
                f"{redact_url(url)} already holds a study named {paths.name!r}. "
                "Give another --study NAME."
            )
        write_atomically(paths.space, space_yaml)
        with storage_errors(url):
            study.storage.set_study_user_attr(study._study_id, "space", space_yaml)
            study.storage.set_study_user_attr(study._study_id, "settings", complete)
        write_atomically(paths.settings, json.dumps(complete, indent=2))
        return study

    @classmethod
    def open(cls, paths: StudyPaths, url: str | None = None) -> Study:
        """Open a study that exists; BadInput lists the known ones when it does not."""
        settings = read_json(paths.settings)
        if settings is None:
            from autotune.study.paths import study_names

            raise BadInput.unknown("study", paths.name, study_names())
        if int(settings.get("format", 0)) > FORMAT:
            raise BadInput(
                f"{paths.settings}: written by a later autotune ({settings.get('version')}). "
                "Upgrade autotune to open it."
            )
        stored = paths.storage_url(settings)
        if settings.get("storage") == EMBEDDED:
            url = None
        if url is None and "***" in stored:
            raise BadInput(
                f"study {paths.name!r} is recorded in {stored}; its password is not kept. "
                "Give --storage URL or set AUTOTUNE_STORAGE."
            )
        study = cls(paths, settings, url or stored)
        study.load()
        return study

    def _find_or_create(self) -> int:
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        name = str(self.settings.get("name", self.paths.name))
        maximize = self.settings.get("direction", "maximize") == "maximize"
        with storage_errors(self.url):
            try:
                direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
                return self.storage.create_new_study([direction], name)
            except DuplicatedStudyError:
                return self.storage.get_study_id_from_name(name)

    def set_aside(self, name: str) -> None:
        """Rename the study and its folder, to make room; StudyHeld while somebody runs it."""
        import optuna

        self.hold()
        self.close()
        old = str(self.settings["name"])
        with storage_errors(self.url):
            optuna.copy_study(
                from_study_name=old,
                from_storage=self.storage,
                to_storage=self.storage,
                to_study_name=name,
            )
            optuna.delete_study(study_name=old, storage=self.storage)
        close_storage(self.storage)
        moved = StudyPaths.named(name)
        settings = {**self.settings, "name": name}
        write_atomically(self.paths.settings, json.dumps(settings, indent=2))
        self.paths.folder.rename(moved.folder)

    def load(self) -> list[TrialRecord]:
        """Read every trial from the storage again."""
        with storage_errors(self.url):
            trials = self.storage.get_all_trials(self._study_id, deepcopy=False)
        for trial in trials:
            self._take_in(trial)
        return self.records()

    def _take_in(self, trial: FrozenTrial) -> None:
        self._records[trial.number] = record_of(trial)
        self._trial_ids[trial.number] = trial._trial_id
        self._intents[trial.number] = intent_of(trial)

    def hold(self) -> Lease:
        """Become the study's one controller; StudyHeld names the one that is."""
        journal = self.paths.folder / "journal" if self.url.startswith("journal:") else None
        with storage_errors(self.url):
            self.lease = Lease.acquire(lease_store(self.storage, journal), self.paths.name)
        return self.lease

    def renew(self) -> bool:
        """Extend the lease; False when another controller has taken it."""
        with storage_errors(self.url):
            return self.lease is not None and self.lease.renew()

    def still_held(self) -> bool:
        """Whether this controller's epoch is still the study's, asked of the storage."""
        with storage_errors(self.url):
            return self.lease is not None and self.lease.held()

    # -- reading

    @property
    def name(self) -> str:
        """The study's name."""
        return self.paths.name

    @property
    def reading(self) -> tuple[bool, tuple[str, ...]]:
        """How its records are read: whether larger is better, and what its space opted in."""
        opted_in = tuple(str(name) for name in self.settings.get("opted_in") or ())
        return self.settings.get("direction") != "minimize", opted_in

    @property
    def study_id(self) -> int:
        """The study's number in its storage."""
        return self._study_id

    def trial_id(self, number: int) -> int:
        """A trial's number in the whole storage."""
        return self._trial_ids[number]

    def records(self) -> list[TrialRecord]:
        """All trials by number, running ones included."""
        return [self._records[number] for number in sorted(self._records)]

    def record(self, number: int) -> TrialRecord:
        """One trial; BadInput lists the range when there is no such number."""
        if number not in self._records:
            last = max(self._records, default=None)
            known = "it has no trials yet" if last is None else f"it has 0 to {last}"
            raise BadInput(f"study {self.name!r} has no trial {number}: {known}.")
        return self._records[number]

    def intent(self, number: int) -> Intent:
        """What was last meant to be done with a trial."""
        return self._intents.get(number, Intent())

    # -- writing

    def add(
        self,
        config: Config,
        distributions: Mapping[str, BaseDistribution],
        *,
        kind: TrialKind,
        reason: str,
        prediction: Prediction,
        simulated: bool,
        fidelity: Fidelity = "full",
        seed: int | None = None,
    ) -> TrialRecord:
        """Create a trial in one row: parameters, kind, reason and expectation are in it."""
        chosen = TrialRecord(
            UNNUMBERED,
            dict(config.values),
            config.hash,
            kind=kind,
            reason=reason,
            prediction=prediction,
            simulated=simulated,
            fidelity=fidelity,
            seed=seed,
        )
        with storage_errors(self.url):
            trial_id = self.storage.create_new_trial(
                self._study_id, trial_template(chosen, distributions)
            )
            number = self.storage.get_trial_number_from_id(trial_id)
        record = dataclasses.replace(chosen, number=number)
        self._records[number] = record
        self._trial_ids[number] = trial_id
        self._intents[number] = Intent()
        return record

    def appeared(self) -> list[TrialRecord]:
        """Trials that `add` created but never heard of, the storage's answer having been lost."""
        with storage_errors(self.url):
            trials = self.storage.get_all_trials(self._study_id, deepcopy=False)
        found = [trial for trial in trials if trial.number not in self._records]
        for trial in found:
            self._take_in(trial)
        return [self._records[trial.number] for trial in found]

    def add_like(
        self, record: TrialRecord, distributions: Mapping[str, BaseDistribution]
    ) -> TrialRecord:
        """Create a trial with the config and purpose of another record; not its result."""
        return self.add(
            Config(record.values),
            distributions,
            kind=record.kind,
            reason=record.reason,
            prediction=record.prediction,
            simulated=record.simulated,
            fidelity=record.fidelity,
            seed=record.seed,
        )

    def set_intent(self, number: int, intent: Intent) -> None:
        """Write what is about to be done, before it is done."""
        self._intents[number] = intent
        with storage_errors(self.url):
            self.storage.set_trial_system_attr(self._trial_ids[number], INTENT, intent.to_json())

    def save_result(self, record: TrialRecord, attempt: int) -> None:
        """Write the result file, whole, before anything is told."""
        folder = self.paths.trial(record.number, attempt)
        write_atomically(folder.result, json.dumps(record_to_json(record), indent=1))

    def save_chosen(self, record: TrialRecord, attempt: int) -> None:
        """Write what was chosen into the trial's folder, so that a lost storage can be rebuilt."""
        folder = self.paths.trial(record.number, attempt)
        write_atomically(folder.chosen, json.dumps(record_to_json(record), indent=1), durable=False)

    def save_doubted(self, record: TrialRecord, attempt: int) -> None:
        """Keep a figure that is measured again because of the GPU it came from; never told."""
        folder = self.paths.trial(record.number, attempt).folder
        doubted = {"doubted": True, **record_to_json(record)}
        write_atomically(folder / "doubted.json", json.dumps(doubted, indent=1))

    def save_late(self, record: TrialRecord, intent: Intent) -> None:
        """Keep a result that came after the lease was lost; it is never told."""
        folder = self.paths.trial(record.number, intent.attempt).folder
        late = {"late": True, "epoch": intent.epoch, **record_to_json(record)}
        write_atomically(folder / f"late.{intent.epoch}.json", json.dumps(late, indent=1))

    def tell(self, record: TrialRecord) -> bool:
        """Write a finished trial into the storage, once; False when it was told before.

        The caller has made sure of the lease. Raises StorageAway when the database is gone;
        the call may be repeated.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        if record.outcome is None:
            raise ValueError(f"trial {record.number} has no outcome to tell")
        state, values = told_state(record)
        trial_id = self._trial_ids[record.number]
        with storage_errors(self.url):
            try:
                self.storage.set_trial_user_attr(trial_id, RESULT, record_to_json(record))
                for key, value in constraint_attributes(record.outcome).items():
                    self.storage.set_trial_system_attr(trial_id, key, value)
                self.storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                self._records[record.number] = record_of(self.storage.get_trial(trial_id))
                return False
        self._records[record.number] = record
        return True

    def set_system_attribute(self, number: int, key: str, value: str) -> None:
        """Keep something beside a trial for tools that read the storage; a told one stays."""
        from optuna.exceptions import UpdateFinishedTrialError

        with storage_errors(self.url), suppress(UpdateFinishedTrialError):
            self.storage.set_trial_system_attr(self._trial_ids[number], key, value)

    def note(self, key: str, value: Any) -> None:
        """Keep a fact of the whole study (why it ended, say) as a user attribute."""
        with storage_errors(self.url):
            self.storage.set_study_user_attr(self._study_id, key, value)

    def noted(self, key: str) -> Any:
        """A fact kept by `note`; None when there is none."""
        with storage_errors(self.url):
            return self.storage.get_study_user_attrs(self._study_id).get(key)

    def close(self) -> None:
        """Give the lease back and let go of the storage, which may be away: leases expire."""
        if self.lease is not None:
            with suppress(StorageAway), storage_errors(self.url):
                self.lease.release()
            self.lease = None
        close_storage(self.storage)
