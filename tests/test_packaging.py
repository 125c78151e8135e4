"""The wheel carries the library and the content folders, and nothing generic into site-packages."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import autotune
from autotune.content import KINDS, find_content, shipped_root

ROOT = Path(autotune.__file__).parent.parent


def tracked(folder: str) -> set[str]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", folder], capture_output=True, text=True, check=True
    )
    return {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from what git tracks, installed by unpacking it."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    for name in {*tracked("."), "pyproject.toml", "README.md"}:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return next(work.glob("*.whl"))


def test_the_wheel_holds_every_file_and_only_our_package(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"autotune"}
    wanted = tracked("autotune")
    for kind in KINDS:
        wanted |= {f"autotune/_content/{name}" for name in tracked(kind)}
    assert names == wanted


def test_an_installed_wheel_finds_its_own_spaces(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from autotune import content, space; print(content.shipped_root());"
        "print(space.load_space('llama70b_tp_pp').source)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(site)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [Path(line).is_relative_to(site) for line in shown] == [True, True]


def test_a_checkout_reads_its_own_folders_not_a_stale_copy() -> None:
    assert shipped_root() == ROOT


@pytest.mark.parametrize("relative", ["../pyproject.toml", "/etc/passwd", "models/../../README.md"])
def test_content_never_leaves_its_folder(relative: str) -> None:
    assert find_content("search_spaces", relative) is None


def test_the_base_install_has_no_torch_and_the_torch_extra_is_unpinned() -> None:
    import re

    text = (ROOT / "pyproject.toml").read_text()
    base = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M)
    assert base is not None and "torch" not in base[1]
    assert 'torch = ["torch"]' in text
