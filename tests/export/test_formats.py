"""Every export format: clean to shellcheck, read back by what will read it, words unharmed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from autotune.controller.setting import prepare
from autotune.errors import BadInput
from autotune.export import Winner, exporter_names, write_export
from autotune.frameworks import RenderContext
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

EVIL = ["a b'c\"d", "$(touch pwned)", "x\ny", "*", "`id`", "\\n", ""]
PROVENANCE = {"study": "s", "trial": 1, "figure": "1 tokens/s", "simulated": False}


def _winner(folder: Path, nodes: int = 1, space: str = "llama1b_deepspeed") -> Winner:
    setting = prepare(space, simulate=False)
    config = setting.baseline()
    context = RenderContext(trial_dir=folder, python=setting.options.python, purpose="export")
    job = setting.framework(config).render(setting.space, config, context)
    job = replace(job, argv=(*job.argv, *EVIL), nodes=nodes, gpus_per_node=2, per="rank")
    return Winner(setting.space, config, job, folder, PROVENANCE)


def _formats() -> list[str]:
    return [name for name in exporter_names() if name not in ("megatron", "nemo", "torchtitan")]


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("name", _formats())
def test_scripts_are_clean(name: str, nodes: int, tmp_path: Path) -> None:
    paths = write_export(name, _winner(tmp_path / "out dir", nodes))
    scripts = [str(path) for path in paths if path.suffix in (".sh", ".sbatch")]
    assert scripts or name == "json"
    if scripts and shutil.which("shellcheck"):
        subprocess.run(["shellcheck", *scripts], check=True)
    assert (tmp_path / "out dir" / "provenance.json").is_file()


@pytest.mark.parametrize("name", ["torchrun", "deepspeed", "accelerate"])
def test_words_reach_the_launcher_as_they_are(name: str, tmp_path: Path) -> None:
    winner = _winner(tmp_path / "out")
    write_export(name, winner)
    launcher = tmp_path / "launcher"
    launcher.write_text(
        f"#!{shutil.which('python3')}\nimport json, sys\nprint(json.dumps(sys.argv))\n"
    )
    launcher.chmod(0o755)
    env = {**os.environ, name.upper(): str(launcher)}
    said = subprocess.run(
        [str(tmp_path / "out" / "run.sh"), "extra"], env=env, capture_output=True, check=True
    ).stdout
    words = json.loads(said.splitlines()[-1])
    wanted = [*winner.job.argv[1:], "extra"]
    assert words[-len(wanted) :] == wanted
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("name", ["mpirun", "sbatch"])
def test_every_node_learns_its_number(name: str, tmp_path: Path) -> None:
    winner = _winner(tmp_path / "out", nodes=3)
    write_export(name, winner)
    node = (tmp_path / "out" / "node.sh").read_text()
    source = {"mpirun": "OMPI_COMM_WORLD_RANK", "sbatch": "SLURM_NODEID"}[name]
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PET_NODE_RANK of $PET_NNODES at $PET_MASTER_ADDR"\n')
    python.chmod(0o755)
    env = {
        **os.environ,
        "PYTHON": str(python),
        "MASTER_ADDR": "first",
        source: "2",
        "OMPI_COMM_WORLD_SIZE": "3",
        "SLURM_JOB_NUM_NODES": "3",
    }
    said = subprocess.run(
        [str(tmp_path / "out" / "node.sh")], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "2 of 3 at first" and source in node


def test_a_pytorchjob_holds_all_files(tmp_path: Path) -> None:
    winner = _winner(tmp_path, nodes=3)
    write_export("k8s", winner)
    text = (tmp_path / "pytorchjob.yaml").read_text()
    config_map, job = yaml.safe_load_all(text)
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert (replicas["Master"]["replicas"], replicas["Worker"]["replicas"]) == (1, 2)
    volume = replicas["Worker"]["template"]["spec"]["volumes"][0]["configMap"]
    held = {item["path"]: config_map["data"][item["key"]] for item in volume["items"]}
    assert held["ds_config.json"] == winner.job.files["ds_config.json"]
    assert held["run.sh"] == (tmp_path / "run.sh").read_text()
    assert "&id" not in text, "kubectl users read it: no anchors"


def test_accelerate_reads_its_configuration(tmp_path: Path) -> None:
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    write_export("accelerate", _winner(tmp_path, nodes=3))
    read = config_args.load_config_from_file(str(tmp_path / "accelerate_config.yaml"))
    assert (read.num_machines, read.num_processes) == (3, 6)


def test_a_wrong_format_says_so(tmp_path: Path) -> None:
    for name in ("nemo", "torchtitan", "megatron"):
        with pytest.raises(BadInput, match="bash exports any winner"):
            write_export(name, _winner(tmp_path / name))


def test_a_nemo_export_has_overrides(tmp_path: Path) -> None:
    write_export("nemo", _winner(tmp_path, space="llama7b_lora_nemo"))
    rows = (tmp_path / "overrides.txt").read_text().splitlines()
    assert any(row.startswith("model.micro_batch_size=") for row in rows)


def test_an_export_says_where_its_figure_was_measured(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid")
    said = cli("export", "s", "-o", "out")
    facts = json.loads((cli.folder / "out" / "provenance.json").read_text())
    assert "WARNING" not in said.stderr
    assert facts["machines"][0]["cpus"] > 0 and facts["software"]["python"]
    script = (cli.folder / "out" / "run.sh").read_bytes()
    assert facts["sha256"]["run.sh"] == hashlib.sha256(script).hexdigest()
    assert "Measured on:" in (cli.folder / "out" / "README.md").read_text()
    trials = Path(cli.env["AUTOTUNE_HOME"]) / "studies" / "s" / "trials"
    for path in trials.glob(f"{facts['trial']:04d}/exit.*.json"):
        record = json.loads(path.read_text())
        record["machine"]["cpu"], record["gpus"] = "other", [{"name": "H100"}, {"name": "H100"}]
        path.write_text(json.dumps(record))
    warned = cli("export", "s", "-o", "out").stderr
    assert "cpu: other measured" in warned and "GPUs: H100 measured" in warned
    assert "2 x H100" in cli("report", "s", "--format", "md", "-o", "-").stdout


def test_megatron_arguments_read_as_what_they_mean(tmp_path: Path) -> None:
    winner = _winner(tmp_path)
    flags = (
        "--num-layers",
        "32",
        "--bf16",
        "--lr",
        "1e-05",
        "--split",
        "969,30,1",
        "--a",
        "1",
        "2",
    )
    job = replace(winner.job, argv=("python3", "pretrain_gpt.py", *flags))
    write_export("megatron", replace(winner, job=job))
    read = yaml.safe_load((tmp_path / "megatron_args.yaml").read_text())
    assert read == {"num_layers": 32, "bf16": True, "lr": 1e-5, "split": "969,30,1", "a": [1, 2]}


def test_verify_reruns_the_script(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid")
    said = cli("export", "s", "-o", "out", "--verify").stdout
    assert "does what was measured (+0.0%)" in said
    cli.write("train.py", (cli.folder / "train.py").read_text().replace("1000 *", "500 *"))
    assert "-50.0% off" in cli("export", "s", "-o", "out", "--verify", expect=1).stderr
    cli.write("train.py", "raise SystemExit(3)\n")
    assert "ended with" in cli("export", "s", "-o", "out", "--verify", expect=3).stderr


def test_a_rayjob_is_one_worker_a_node(tmp_path: Path) -> None:
    winner = _winner(tmp_path, nodes=3)
    write_export("rayjob", winner)
    text = (tmp_path / "rayjob.yaml").read_text()
    config_map, job = yaml.safe_load_all(text)
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (workers["replicas"], job["spec"]["entrypoint"].split()[-2:]) == (3, ["3", "2"])
    assert (tmp_path / "run.sh").read_text() in config_map["data"].values()
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "resources" not in head and "&id" not in text


def test_files_too_large_for_a_config_map_are_refused(tmp_path: Path) -> None:
    winner = _winner(tmp_path)
    job = replace(winner.job, files={**winner.job.files, "data.txt": "x" * (1 << 20)})
    with pytest.raises(BadInput, match=r"ConfigMap holds 1,048,576.*data\.txt"):
        write_export("k8s", replace(winner, job=job))


RAY_NODES = """
import os, subprocess, sys
from ray.cluster_utils import Cluster
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, num_gpus=2, include_dashboard=False)
env = {**os.environ, "RAY_ADDRESS": cluster.address}
code = subprocess.run([sys.executable, sys.argv[1], "2", "2"], env=env).returncode
cluster.shutdown()
sys.exit(code)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_ray_starts_the_gang_on_every_node(broken: bool, tmp_path: Path) -> None:
    """start_gang.py on a real Ray cluster of two nodes, run.sh in place of a training."""
    pytest.importorskip("ray")
    write_export("rayjob", _winner(tmp_path, nodes=2))
    script = 'echo "$NODE_RANK of $NNODES at $MASTER_ADDR" > "$0.$NODE_RANK"\n'
    script += '[ "$NODE_RANK" = 0 ] && exit 7\nsleep 60\n' if broken else ""
    (tmp_path / "run.sh").write_text(script)
    done = subprocess.run(
        [sys.executable, "-c", RAY_NODES, str(tmp_path / "start_gang.py")],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == (7 if broken else 0), done.stdout + done.stderr
    told = [path.read_text().split(" at ") for path in sorted(tmp_path.glob("run.sh.*"))]
    assert told[0][0] == "0 of 2"
    if not broken:
        assert told[1] == ["1 of 2", told[0][1]], "both know the same first node"
