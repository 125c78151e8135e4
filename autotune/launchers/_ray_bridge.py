"""The controller's end of ``_ray_driver.py``: starts it, asks it, and tells its death clearly."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

from autotune.errors import BadInput, EngineLost
from autotune.launchers import host

CONNECT_BOUND_S = 120.0
ANSWER_BOUND_S = 90.0
END_BOUND_S = 10.0
ON = "Repair or restart the cluster, then `autotune resume`."


class Bridge:
    """A Ray driver in a process of its own, started with the first request."""

    def __init__(self, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.settings = dict(settings)
        self.env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The driver's answer; EngineLost when the cluster or the driver is lost."""
        if self._process is None:
            self._start()
        answer = self._exchange({"do": do, **request}, ANSWER_BOUND_S)
        if "error" in answer:
            raise self._lost(answer["error"], answer["kind"])
        return answer

    def close(self) -> None:
        """End the driver; it gives back what serves no gang."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(END_BOUND_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "autotune.launchers._ray_driver"],
            env={**os.environ, **self.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
        )
        answer = self._exchange(self.settings, CONNECT_BOUND_S)
        if "error" in answer:
            self.close()
            raise self._refused(answer["error"], answer["kind"])

    def _exchange(self, request: Mapping[str, Any], bound_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        bound = time.monotonic() + bound_s
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise self._lost("its driver ended", self._last_words()) from None
        text = b""
        while not text.endswith(b"\n"):
            left = bound - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise self._lost("it does not answer", f"waited {bound_s:.0f} s")
            data = os.read(process.stdout.fileno(), 1024 * 1024)
            if not data:
                raise self._lost("its driver ended", self._last_words())
            text += data
        found: dict[str, Any] = json.loads(text)
        return found

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 4000))
        lines = [line.strip() for line in self._said.read().decode(errors="replace").splitlines()]
        hidden = [value.decode(errors="replace") for value in host.secret_values(dict(os.environ))]
        words = next((line for line in reversed(lines) if line), "it said nothing")
        for value in hidden:
            words = words.replace(value, "***")
        return words[:300]

    def _lost(self, what: str, why: str) -> EngineLost:
        return EngineLost(f"the Ray cluster: {what} ({why}). {ON}")

    def _refused(self, what: str, kind: str) -> Exception:
        place = self.settings["address"] or "a cluster on this machine"
        first = what.strip().splitlines()[0]
        if kind in ("ModuleNotFoundError", "ImportError"):
            return BadInput(f"ray is not installed here ({first}): pip install 'autotune-llm[ray]'")
        if kind == "AuthenticationError" or "uthentication" in what or "oken" in first:
            return BadInput(
                f"Ray refuses us at {place}: {first} Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
                "(or RAY_AUTH_TOKEN_PATH) as the cluster has them."
            )
        return EngineLost(
            f"no Ray cluster answers at {place}: {first} Set RAY_ADDRESS or the launcher's option "
            "`address`; `autotune cluster up` starts one to try."
        )
