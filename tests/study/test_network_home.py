"""A home on a network file system, where SQLite loses data, is refused with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.errors import BadInput
from autotune.study import storage

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home {nfs} nfs4 rw 0 0
/dev/sdb1 {nfs}/scratch xfs rw 0 0
"""


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the kernel would call an NFS mount, with a space in its name."""
    folder = tmp_path / "net home"
    (folder / "scratch").mkdir(parents=True)
    text = MOUNTS.format(nfs=str(folder).replace(" ", "\\040"))
    read = Path.read_text

    def read_mounts(path: Path, *words: object, **named: object) -> str:
        return text if str(path) == "/proc/mounts" else read(path, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_mounts)
    return folder


def test_sqlite_on_nfs_is_refused_and_nothing_is_created(mounted: Path) -> None:
    assert storage.file_system_type(mounted) == "nfs4"
    with pytest.raises(BadInput, match=r"network file system \(nfs4\).*AUTOTUNE_HOME.*postgresql"):
        storage.open_storage(f"sqlite:///{mounted}/study.db")
    assert not (mounted / "study.db").exists()


def test_a_local_disk_mounted_below_it_is_fine(mounted: Path) -> None:
    assert storage.file_system_type(mounted / "scratch") == "xfs"
    storage.open_storage(f"sqlite:///{mounted}/scratch/study.db").remove_session()


def test_a_journal_may_lie_on_nfs(mounted: Path) -> None:
    storage.open_storage(f"journal://{mounted}/study.log")
    assert (mounted / "study.log").exists()
