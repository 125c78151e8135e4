"""F39: nothing shared is unpickled: no module imports a pickler, a poisoned row is inert."""

from __future__ import annotations

import ast
import pickle
import sqlite3
from pathlib import Path

import autotune
from tests.controller.conftest import Cli
from tests.faults.conftest import folder_of

PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def test_f39_no_pickler_is_imported() -> None:
    for path in Path(autotune.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & PICKLERS, path


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch pwned",)


def test_f39_a_pickle_in_the_storage_is_not_loaded(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--trials", "2", expect=None)
    with sqlite3.connect(folder_of(cli, "s") / "study.db") as connection:
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 2",
            (pickle.dumps(Bomb()),),
        )
    connection.close()
    cli("status", "s", expect=None)
    assert not list(cli.folder.parent.rglob("pwned"))
