"""One trial of a space as a Ray Tune trainable, for those who keep their own Tuner.

    setting = prepare("job.yaml")
    tune.Tuner(
        make_trainable("job.yaml"),
        tune_config=tune.TuneConfig(
            search_alg=make_searcher(setting.legal, "tokens_per_s"), num_samples=20
        ),
    ).fit()

Each optimizer step that the job's log shows is one Tune iteration: ``tokens_per_s``, ``step``,
``step_time_s`` and ``loss``. The last one tells ``outcome``, ``oom`` and the steady rate (0 for
a run that failed). A scheduler that stops a trial has its gang ended. Ray is imported only when
this is called.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.controller import judge
from autotune.controller.setting import Options, Setting, prepare
from autotune.controller.timers import HangTimer
from autotune.controller.watch import Watch
from autotune.controller.write_job import write_job
from autotune.errors import BadInput
from autotune.launchers import end_gang
from autotune.search.steady import SteadyState
from autotune.study.intents import Intent, new_token
from autotune.study.paths import TrialPaths
from autotune.trial import Outcome, StepSample, TrialRecord

POLL_S = 0.05


class OneTrial:
    """One config's gang from its start to its verdict, one reported step after the other."""

    def __init__(self, setting: Setting, values: Mapping[str, Any], folder: Path) -> None:
        index = setting.legal.find(values)
        if index is None:
            raise BadInput(f"{dict(values)} is not among the legal configs of {setting.space.name}")
        self.setting = setting
        config = setting.legal.config(index)
        self.workload_tokens: float | None = None
        job = setting.render(config, folder)
        paths = TrialPaths(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_job(job, paths)
        token = new_token()
        handle = setting.launcher.submit(job, folder, token)
        workload = setting.workload(config, job)
        self.workload_tokens = workload.tokens_per_step
        trial = setting.space.trial
        self.watch = Watch(
            TrialRecord(0, config.values, config.hash, started_at=judge.now()),
            Intent(state="running", token=token, handle=handle),
            job,
            paths,
            setting.launcher,
            setting.framework(config).log_format(setting.space),
            SteadyState(workload, setting.step_limits()),
            HangTimer(trial.startup_grace_s, trial.hang_floor_s),
            may_stop_early=False,
            kill_grace_s=trial.kill_grace_s,
        )
        self.reported = 0
        self.record: TrialRecord | None = None

    def next_report(self) -> dict[str, Any]:
        """The next step's figures, or the verdict (``done``); waits for them."""
        while True:
            settled = self.watch.advance(None)
            samples = self.watch.steady.samples
            if self.reported < len(samples):
                self.reported += 1
                return {**self._figures(samples[self.reported - 1]), "done": False}
            if settled:
                return self._verdict()
            time.sleep(POLL_S)

    def end(self) -> None:
        """End the gang, if it still runs, and wait until nothing is left of it."""
        end_gang(self.setting.launcher, self.watch.intent.handle, self.watch.kill_grace_s)

    def _figures(self, sample: StepSample) -> dict[str, Any]:
        rate = sample.tokens_per_s
        if rate is None and sample.seconds and self.workload_tokens:
            rate = self.workload_tokens / sample.seconds
        figures = {"tokens_per_s": rate, "step": sample.step or self.reported, "oom": False}
        for name, value in (("step_time_s", sample.seconds), ("loss", sample.loss)):
            if value is not None:
                figures[name] = value
        return {name: value for name, value in figures.items() if value is not None}

    def _verdict(self) -> dict[str, Any]:
        self.record = judge.judge(self.setting, self.watch, [])
        outcome, measurement = self.record.outcome, self.record.measurement
        told: dict[str, Any] = {
            "done": True,
            "outcome": str(outcome),
            "reason": self.record.outcome_reason,
            "oom": outcome is Outcome.OOM_GPU,
            "tokens_per_s": 0.0,  # Tune's schedulers refuse a result without their metric
        }
        if outcome is Outcome.OK and measurement and measurement.tokens_per_s:
            told["tokens_per_s"] = measurement.tokens_per_s.value
            told["step_time_s"] = measurement.step_time_s.value
        return told


def make_trainable(
    space: str,
    overrides: Sequence[str] = (),
    launcher: str = "local",
    launcher_options: Mapping[str, Any] | None = None,
    resources: Mapping[str, float] | None = None,
) -> Any:
    """A class for ``tune.Tuner``: each Tune trial runs one legal config of a space as a gang.

    ``resources`` is what Tune reserves a trial: default one CPU, and with launcher ``local`` the
    GPUs that the space's cluster has a node where Ray knows of any; with ``ray`` the gang
    reserves its own. BadInput when Ray is missing or the space cannot be run.
    """
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise BadInput(
            f"Ray Tune is missing ({error}): pip install 'autotune-llm[ray]'."
        ) from error
    name = str(Path(space).absolute()) if Path(space).is_file() else space
    options = Options(launcher=launcher, launcher_options=dict(launcher_options or {}))
    setting = prepare(name, overrides, options)
    if resources is None:
        wanted = setting.space.cluster.gpus_per_node if launcher == "local" else 0
        known = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= wanted
        resources = {"cpu": 1, **({"gpu": wanted} if wanted and known else {})}
    folder = Path.cwd()

    class AutotuneTrial(tune.Trainable):
        """Runs one config; Tune sees its steps."""

        def setup(self, config: dict[str, Any]) -> None:
            import os

            os.chdir(folder)
            ours = prepare(name, overrides, options)
            self.one = OneTrial(ours, config, Path(self.logdir).absolute() / "gang")

        def step(self) -> dict[str, Any]:
            return self.one.next_report()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to keep: a measurement is made anew."""

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            """Nothing to take up."""

        def cleanup(self) -> None:
            self.one.end()

    return tune.with_resources(AutotuneTrial, dict(resources))
