"""F36: object tags, duplicate and unknown keys, alias bombs: refused with file, line and key."""

from __future__ import annotations

import pytest

from autotune.errors import BadInput
from autotune.space import load_space

SPACE = """\
name: victim
framework: command
command: ["true", "{batch}"]
parameters:
  batch: {values: [1, 2]}
baseline: {batch: 1}
"""
BOMB = "x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 15)
)


@pytest.mark.parametrize(
    ("added", "line", "message"),
    [
        ("env: !!python/object/apply:os.mkdir [CANARY]\n", 7, "env: tag"),
        ("options: {a: !!python/object/new:os.system ['mkdir CANARY']}\n", 7, "options.a: tag"),
        ("description: !!binary aGVsbG8=\n", 7, "description: tag"),
        ("name: twice\n", 7, "'name' stands twice"),
        ("budget: {trials: 1, trials: 2}\n", 7, "budget: key 'trials' stands twice"),
        ("budgte: {trials: 1}\n", 7, "budgte: unknown key; did you mean 'budget'?"),
        ("budget: {trails: 1}\n", 7, "budget.trails: unknown key; did you mean 'trials'?"),
        (BOMB, 11, "values once aliases are expanded"),
        ("options: &loop {again: *loop}\n", 7, "options.again: alias"),
        ("options: {<<: {a: 1}}\n", 7, "options: merge"),
    ],
    ids=lambda value: str(value)[:24].strip(),
)
def test_f36_refused_with_file_line_and_key(added, line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "victim.yaml"
    path.write_text(SPACE + added.replace("CANARY", str(tmp_path / "canary")))
    with pytest.raises(BadInput) as caught:
        load_space(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert message in str(caught.value)
    assert not (tmp_path / "canary").exists()
    assert caught.value.exit_code == 2


def test_f36_the_same_file_without_the_attack_loads(tmp_path):
    (tmp_path / "victim.yaml").write_text(SPACE)
    assert load_space(tmp_path / "victim.yaml").name == "victim"
