"""The NeMo stand-in prints what the nemo log format reads, and dies as real ranks do."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotune.config import Config
from autotune.frameworks import RenderContext, get_framework
from autotune.logs import LogReader, Parser
from autotune.space import SearchSpace, build_legal_set, load_space
from autotune.trial import Job

NEMO = get_framework("nemo")
RunJob = Callable[[Job, Path], str]
RUNNERS = Path(__file__).resolve().parents[2] / "runners" / "nemo_lora"


def _space() -> SearchSpace:
    return load_space("llama7b_lora_nemo", ["runner=nemo_lora/stand_in.py", "trial.steps=6"])


def _config(space: SearchSpace, **changes: object) -> Config:
    legal = build_legal_set(space, NEMO.rules(space))
    place = legal.find({**space.baseline, **changes})
    assert place is not None, legal.why_illegal({**space.baseline, **changes})
    return legal.config(place)


def test_the_published_point_is_printed_in_nemos_format(run_job: RunJob, tmp_path: Path) -> None:
    space = _space()
    run_job(NEMO.render(space, _config(space), RenderContext(tmp_path)), tmp_path)
    raw = (tmp_path / "rank0.log").read_bytes()
    assert b"STAND-IN" in raw and raw.count(b"\r") == 6
    reader, parser = LogReader(), Parser(NEMO.log_format(space))
    lines = [*reader.feed(raw), *reader.close()]
    samples = [sample for line in lines for sample in parser.feed(line)]
    samples += parser.finish()
    assert [s.step for s in samples] == [0, 1, 2, 3, 4, 5]
    assert samples[-1].seconds == pytest.approx(68.70, rel=0.02)
    assert samples[-1].loss == pytest.approx(0.7, abs=0.01)


def test_one_rank_vanishes_with_an_oom_line_while_the_others_wait(tmp_path: Path) -> None:
    space = _space()
    job = NEMO.render(space, _config(space, micro_batch_size=4), RenderContext(tmp_path))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/autotune.yaml").write_text(job.files["conf/autotune.yaml"])
    gang = [
        subprocess.Popen(
            job.argv, env={"RANK": str(rank), "WORLD_SIZE": "2"}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        _, errors = gang[1].communicate(timeout=60)
        assert gang[1].returncode == 1
        assert "CUDA out of memory" in errors
        assert gang[0].poll() is None
    finally:
        for process in gang:
            process.kill()
            process.wait()


def test_bridge_settings_are_set_or_refused() -> None:
    spec = importlib.util.spec_from_file_location("bridge_recipe", RUNNERS / "bridge_recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    container = SimpleNamespace(model=SimpleNamespace(seq_length=1), train=SimpleNamespace())
    module.apply_settings(container, {"model.seq_length": 4096})
    assert container.model.seq_length == 4096
    for unknown in ("train.train_iters", "ddp.overlap"):
        with pytest.raises(SystemExit, match=unknown):
            module.apply_settings(container, {unknown: 1})
