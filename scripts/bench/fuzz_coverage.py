"""Coverage-guided fuzzing of the same targets as `fuzz_inputs.py`, by atheris where it installs.

    pip install atheris
    python scripts/bench/fuzz_coverage.py --seconds 60 [--json FILE]

Each target runs in a process of its own (libFuzzer owns it), starting from sound inputs; anything
but the errors that the target allows is a crash, an input of over ten seconds a hang.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "bench")]

HANG_S = 10
TARGETS = ("expressions", "loader", "logs", "results", "intents", "handles")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
COVERED = re.compile(r"cov: (\d+)")


def targets() -> dict[str, tuple[Callable[[str], object], list[str]]]:
    """Name -> (one try of a text, sound inputs to start from)."""
    import fuzz_inputs as inputs

    from tests.space.fuzz_targets import fuzz_expression, fuzz_loader

    record, handle = json.dumps(inputs.RECORD), json.dumps(inputs.HANDLE)
    intent = json.dumps(inputs.Intent("running", token="t", handle=inputs.HANDLE).to_json())
    return {
        "expressions": (fuzz_expression, inputs.EXPRESSIONS),
        "loader": (lambda text: fuzz_loader(inputs.encoded(text)), [inputs.SPACE]),
        "logs": (inputs.read_log, [inputs.LOG.decode("latin-1")]),
        "results": (inputs.read_record, [record]),
        "intents": (inputs.read_intent, [intent]),
        "handles": (inputs.read_handle, [handle]),
    }


def fuzz(name: str, arguments: list[str]) -> None:
    """Hand this process to libFuzzer; it never returns."""
    import atheris

    with atheris.instrument_imports(include=["autotune"]):  # so nothing of it may be imported yet
        attempt, _ = targets()[name]
    atheris.Setup(
        [sys.argv[0], *arguments],
        lambda data: attempt(data.decode("utf-8", "surrogateescape")) and None,
    )
    atheris.Fuzz()


def campaign(name: str, seconds: int) -> dict[str, object]:
    """One target for ``seconds`` s: inputs tried, edges covered, whether it crashed."""
    with tempfile.TemporaryDirectory() as corpus:
        for count, text in enumerate(targets()[name][1]):
            (Path(corpus) / f"seed{count}").write_bytes(text.encode("utf-8", "surrogatepass"))
        command = [sys.executable, __file__, "--target", name, corpus]
        command += [f"-max_total_time={seconds}", f"-timeout={HANG_S}", "-print_final_stats=1"]
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", cwd=corpus, check=False
        )
    executed = EXECUTED.search(ended.stderr)
    covered = COVERED.findall(ended.stderr)
    return {
        "target": name,
        "inputs": int(executed[1]) if executed else 0,
        "edges": int(covered[-1]) if covered else 0,
        "crashed": ended.returncode != 0,
        "tail": ended.stderr[-1500:] if ended.returncode else "",
    }


def main() -> None:
    """Run every target in turn, or be one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    wanted, rest = parser.parse_known_args()
    if wanted.target:
        fuzz(wanted.target, rest)
        return
    found = [campaign(name, wanted.seconds) for name in TARGETS]
    text = json.dumps(found, indent=1)
    if wanted.json:
        wanted.json.write_text(text + "\n")
    print(text)
    sys.exit(1 if any(one["crashed"] for one in found) else 0)


if __name__ == "__main__":
    main()
