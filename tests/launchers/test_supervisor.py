"""The node's supervisor on real processes and signals."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotune.launchers import host, rank, supervisor
from tests.launchers.gangs import Gangs, actor_job, log_text, wait_until

NODE = Path(supervisor.__file__).parent


def describe(trial_dir: Path, **changes: object) -> None:
    """Write the description of a gang, as a launcher would."""
    spec = {
        "version": 1, "token": "t", "argv": ["true"], "env": {}, "inherit": [], "cwd": None,
        "per": "job", "nodes": 1, "gpus_per_node": 0, "time_limit_s": 30, "grace_s": 1,
        "peer_grace_s": 1, "master_addr": "127.0.0.1", "master_port": 1, "gpus": [],
        "argv_prefix": [], "parts": 1, "unit": "node", "py_spy": None,
        "container_engine": [], "path_prefix": "", "hosts": [],
    }  # fmt: skip
    (trial_dir / "gang.json").write_text(json.dumps({**spec, **changes}))


def record(trial_dir: Path, index: int = 0) -> dict:
    """A part's exit record."""
    return json.loads((trial_dir / f"exit.{index}.json").read_text())


def test_runs_on_a_bare_python_3_8_grammar() -> None:
    for name in supervisor.NODE_FILES:
        tree = ast.parse((NODE / name).read_text(), feature_version=(3, 8))
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        neighbours = {Path(file).stem for file in supervisor.NODE_FILES}
        assert imported - neighbours <= set(sys.stdlib_module_names)


def test_a_copied_supervisor_runs_alone(tmp_path: Path) -> None:
    for name in supervisor.NODE_FILES:
        (tmp_path / name).write_text((NODE / name).read_text())
    copy = tmp_path / "supervisor.py"
    describe(tmp_path, argv=["sh", "-c", "echo hello; exit 3"])
    argv = [sys.executable, "-I", "-S", str(copy), str(tmp_path / "gang.json"), "0"]
    assert subprocess.run(argv, env={"PATH": os.defpath}, check=False).returncode == 0
    assert record(tmp_path)["ranks"][0]["code"] == 3
    assert log_text(tmp_path) == "hello"


def test_lines_are_stamped_with_the_monotonic_clock(local: Gangs) -> None:
    before = time.monotonic()
    _, trial_dir = local.run(actor_job("say=one", "sleep=0.3", "say=two"))
    lines = (trial_dir / "logs" / "rank0.000.log").read_text().splitlines()
    first, second = (float(line.partition("\t")[0]) for line in lines)
    assert [line.partition("\t")[2] for line in lines] == ["one", "two"]
    assert before < first < second - 0.2 < time.monotonic()


def test_files_are_private_and_the_trainers_umask_is_its_own(local: Gangs) -> None:
    old = os.umask(0o027)
    try:
        _, trial_dir = local.run(actor_job("say=x"))
    finally:
        os.umask(old)
    for path in (trial_dir / "logs" / "rank0.000.log", trial_dir / "exit.0.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (trial_dir / "gang.json").stat().st_mode & 0o777 == 0o600
    assert (trial_dir / "logs").stat().st_mode & 0o777 == 0o700


def test_the_record_tells_code_or_signal(local: Gangs) -> None:
    status, trial_dir = local.run(actor_job("exit=7"))
    assert [(e.rank, e.code, e.signal) for e in status.exits] == [(0, 7, None)]
    assert record(trial_dir)["first_failed"] == 0
    status, _ = local.run(actor_job(f"kill={int(signal.SIGSEGV)}"))
    assert [(e.rank, e.code, e.signal) for e in status.exits] == [(0, None, 11)]
    assert "rank 0 failed first (signal 11)" in status.detail


def test_peers_of_a_failed_rank_get_a_short_grace(make_gangs) -> None:
    gangs = make_gangs("local", {"peer_grace_s": 0.5, "grace_s": 0.5})
    words = ("only=1:exit=9", "only=0:sleep=0.2", "only=0:say=last words", "deaf", "sleep=60")
    status, trial_dir = gangs.run(actor_job(*words, per="rank", gpus_per_node=3))
    told = {e.rank: (e.code, e.signal) for e in status.exits}
    assert told == {0: (None, 9), 1: (9, None), 2: (None, 9)}
    assert log_text(trial_dir, 0) == "last words"
    assert record(trial_dir)["first_failed"] == 1
    assert record(trial_dir)["ended_by"] == "rank_failed"
    assert not status.cancelled and not status.deadline_hit


def test_a_failing_rank_does_not_end_a_gang_that_ends_by_itself(local: Gangs) -> None:
    words = ("only=1:exit=9", "sleep=0.3", "say=done")
    status, trial_dir = local.run(actor_job(*words, per="rank", gpus_per_node=2))
    assert [(e.rank, e.code) for e in status.exits] == [(0, 0), (1, 9)]
    assert record(trial_dir)["ended_by"] is None


def test_the_deadline_holds_without_any_controller(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from autotune.launchers import get_launcher;"
        "from autotune.trial import Job;"
        "get_launcher('local', {'grace_s': 0.3}).submit(Job(('sleep', '60'), time_limit_s=1.0),"
        f" Path({str(tmp_path)!r}), 'deadline-token')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    wait_until((tmp_path / "exit.0.json").exists)
    assert record(tmp_path)["ended_by"] == "deadline"
    assert record(tmp_path)["ranks"][0]["signal"] == signal.SIGTERM
    wait_until(lambda: not host.marked("AUTOTUNE_TOKEN=deadline-token"))


def test_the_deadline_kills_what_ignores_term(make_gangs) -> None:
    gangs = make_gangs("local", {"grace_s": 0.3})
    status, _ = gangs.run(actor_job("deaf", "sleep=60", time_limit_s=3.0))
    assert status.deadline_hit and not status.cancelled
    assert status.exits[0].signal == signal.SIGKILL


def test_ranks_die_with_a_killed_supervisor(local: Gangs) -> None:
    handle = local.start(actor_job("say=up", "sleep=60", per="rank", gpus_per_node=2))
    wait_until(lambda: len(local.launcher.survivors(handle)) == 3)
    os.kill(handle["pid"], signal.SIGKILL)
    status = local.finish(handle)
    assert status.state == "lost" and "vanished" in status.detail
    wait_until(lambda: not local.launcher.survivors(handle))


def test_environment_is_an_allow_list(make_gangs, monkeypatch) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("NVSHMEM_DISABLE_NVLS", "1")
    monkeypatch.setenv("HF_TOKEN", "canary-1")
    monkeypatch.setenv("WANDB_API_KEY", "canary-2")
    monkeypatch.setenv("AUTOTUNE_STORAGE", "postgresql://u:canary-3@h/db")
    gangs = make_gangs("local", {"pass_env": ["WANDB_API_KEY"]})
    names = (
        "NCCL_DEBUG,NVSHMEM_DISABLE_NVLS,HF_TOKEN,WANDB_API_KEY,AUTOTUNE_STORAGE,MY_SECRET,PLAIN"
    )
    job = actor_job(f"env={names}", env={"MY_SECRET": "***", "PLAIN": "p"})
    _, trial_dir = gangs.run(job)
    seen = json.loads(log_text(trial_dir).partition(" ")[2])
    assert seen == {
        "NCCL_DEBUG": "INFO",
        "NVSHMEM_DISABLE_NVLS": "1",
        "HF_TOKEN": None,
        "WANDB_API_KEY": "***",
        "AUTOTUNE_STORAGE": None,
        "MY_SECRET": "***",
        "PLAIN": "p",
    }
    written = b"".join(path.read_bytes() for path in trial_dir.rglob("*") if path.is_file())
    assert b"canary" not in written
    assert "canary" not in json.dumps(gangs.started)


def test_places_per_node_and_per_rank(local: Gangs) -> None:
    names = (
        "NODE_RANK,NNODES,PET_NNODES,PET_NPROC_PER_NODE,PET_MASTER_PORT,MASTER_PORT,MASTER_ADDR,"
        "RANK,LOCAL_RANK,WORLD_SIZE,LOCAL_WORLD_SIZE,CUDA_VISIBLE_DEVICES"
    )
    _, trial_dir = local.run(actor_job(f"env={names}", per="node", gpus_per_node=4))
    node = json.loads(log_text(trial_dir).partition(" ")[2])
    assert (node["NODE_RANK"], node["NNODES"], node["PET_NPROC_PER_NODE"]) == ("0", "1", "4")
    assert node["PET_MASTER_PORT"] == node["MASTER_PORT"] and node["RANK"] is None
    _, trial_dir = local.run(actor_job(f"env={names}", per="rank", gpus_per_node=2))
    second = json.loads(log_text(trial_dir, 1).partition(" ")[2])
    assert (second["RANK"], second["LOCAL_RANK"], second["WORLD_SIZE"]) == ("1", "1", "2")
    assert second["CUDA_VISIBLE_DEVICES"] is None


def test_each_submit_has_a_port_of_its_own(local: Gangs) -> None:
    ports = set()
    for _ in range(3):
        _, trial_dir = local.run(actor_job("env=MASTER_PORT"))
        ports.add(json.loads(log_text(trial_dir).partition(" ")[2])["MASTER_PORT"])
    assert len(ports) == 3


def test_rusage_and_times_are_recorded(local: Gangs) -> None:
    _, trial_dir = local.run(actor_job("eat=40", "sleep=0.1"))
    told = record(trial_dir)
    assert told["ended_s"] - told["started_s"] >= 0.1
    assert 0.03 < told["peak_rss_gib"] < 1.0
    assert told["user_s"] + told["system_s"] > 0.0
    assert abs(told["ended_at"] - time.time()) < 60.0


def test_a_full_disk_never_blocks_the_trainer(tmp_path: Path) -> None:
    source, sink = os.pipe()
    log = rank.RankLog(str(tmp_path), 0, source)
    os.close(log.file)
    log.file = os.open("/dev/full", os.O_WRONLY)
    os.write(sink, b"lost\n" * 1000)
    assert log.drain() == 5000
    assert log.dropped > 5000
    os.close(log.file)
    log.file = os.open(tmp_path / "rank0.000.log", os.O_WRONLY)
    os.write(sink, b"kept\n")
    os.close(sink)
    while log.drain() > 0:
        pass
    log.close()
    assert (
        log_text(tmp_path.parent) == "" and b"\tkept\n" in (tmp_path / "rank0.000.log").read_bytes()
    )


def test_half_a_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": 1')
    assert host.read_object(str(tmp_path / "half.json")) is None
    host.write_whole(str(tmp_path / "whole.json"), {"a": 1})
    assert host.read_object(str(tmp_path / "whole.json")) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_cancel_while_waiting_for_the_first_node(tmp_path: Path) -> None:
    describe(tmp_path, per="node", nodes=2, gpus_per_node=4, master_addr="", parts=2)
    argv = [sys.executable, "-I", "-S", str(NODE / "supervisor.py"), str(tmp_path / "gang.json")]
    waiting = subprocess.Popen([*argv, "1"])
    wait_until((tmp_path / "supervisor.1.json").exists)
    (tmp_path / "cancel").write_text('{"grace_s": 0}')
    assert waiting.wait(10.0) == 0
    told = record(tmp_path, 1)
    assert (told["ended_by"], told["error"], told["ranks"]) == ("cancel", None, [])
    assert told["gpu_seconds"] == pytest.approx(4 * (told["ended_s"] - told["started_s"]))


def test_ranks_that_did_start_are_ended_when_one_cannot(tmp_path: Path) -> None:
    program = tmp_path / "program0"
    program.write_text("#!/bin/sh\necho started; exec sleep 60\n")
    program.chmod(0o755)
    prefix = [str(tmp_path / "program{rank}")]
    describe(tmp_path, per="rank", gpus_per_node=3, argv_prefix=prefix)
    argv = [sys.executable, "-I", "-S", str(NODE / "supervisor.py"), str(tmp_path / "gang.json")]
    assert subprocess.run([*argv, "0"], check=False).returncode == 0
    told = record(tmp_path)
    assert told["first_failed"] == 1 and "program1" in told["error"]
    assert [(r["rank"], r["code"], r["signal"]) for r in told["ranks"]] == [
        (0, None, signal.SIGTERM),
        (1, 127, None),
    ]
    assert "program1: command not found" in log_text(tmp_path, 1)
