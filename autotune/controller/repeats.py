"""Which trials are run once more for what was not their config's fault: lost nodes, doubted GPUs.

What failed through infrastructure is tried again, at most twice; what was measured on a throttled
or shared GPU is measured again, once. Where a repeat was as doubtful, it is the machine and not
the moment: figures carry the doubt from then on, and nothing is repeated for it any more.
"""

from __future__ import annotations

from autotune.controller.events import Listener
from autotune.study.intents import Intent
from autotune.study.record import Study
from autotune.trial import Outcome, TrialRecord

INFRA_RETRIES = 2


class Repeats:
    """What one run of the controller knows of repeats; `again` decides on each trial that ended."""

    def __init__(self, study: Study, listener: Listener) -> None:
        self.study = study
        self.listener = listener
        self._doubts_stay = False

    def again(self, record: TrialRecord, intent: Intent) -> Intent | None:
        """The intent under which the trial runs once more; None where it is to be told."""
        if record.outcome is Outcome.INFRA and intent.infra_retries < INFRA_RETRIES:
            retries = intent.infra_retries + 1
            self.listener.message(
                f"trial {record.number}: {record.outcome_reason}; trying again "
                f"({retries} of {INFRA_RETRIES})"
            )
            return intent.again(infra_retries=retries)
        if record.doubts and record.outcome in (Outcome.OK, Outcome.OOM_GPU):
            return self._measured_again(record, intent)
        return None

    def _measured_again(self, record: TrialRecord, intent: Intent) -> Intent | None:
        if intent.doubted:
            self._doubts_stay = True
            self.listener.message(
                f"trial {record.number}: {record.doubts[0]} again; its figure is kept as doubtful "
                "and such trials are not repeated any more. Look after this GPU."
            )
        if self._doubts_stay:
            return None
        self.study.save_doubted(record, intent.attempt)
        self.listener.message(f"trial {record.number}: {record.doubts[0]}; measuring it again")
        return intent.again(doubted=intent.doubted + 1)
