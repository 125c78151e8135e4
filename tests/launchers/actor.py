"""A program that misbehaves on request: what the launchers' tests start as a rank."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def double_fork(clear_environment: bool) -> None:
    """Leave a grandchild in a session of its own, its pid on stdout; returns once it told it."""
    told, tell = os.pipe()
    if os.fork():
        os.wait()
        os.read(told, 1)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"orphan {os.getpid()}", flush=True)
    os.write(tell, b"1")
    if clear_environment:
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})
    time.sleep(600)
    os._exit(0)


def act(word: str) -> None:
    """Do one thing: NAME or NAME=VALUE."""
    name, _, value = word.partition("=")
    if name == "say":
        print(value, flush=True)
    elif name == "env":
        wanted = {key: os.environ.get(key) for key in value.split(",")}
        print("env " + json.dumps(wanted, sort_keys=True), flush=True)
    elif name == "raw":
        os.write(1, bytes.fromhex(value))
    elif name == "flood":
        line = b"x" * 199 + b"\n"
        for _ in range(int(value) * 1024 * 1024 // 200 // 1000):
            os.write(1, line * 1000)
    elif name == "endless":
        for _ in range(int(value)):
            os.write(1, b"y" * 1024 * 1024)
    elif name == "sleep":
        time.sleep(float(value))
    elif name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif name == "orphan":
        double_fork(clear_environment=value == "bare")
    elif name == "zombies":
        for _ in range(int(value)):
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
            os.wait()
    elif name == "kill":
        os.kill(os.getpid(), int(value))
    elif name == "eat":
        blocks = []
        for _ in range(int(value)):
            blocks.append(bytearray(os.urandom(1024 * 1024)))
    elif name == "wait_for":
        while not Path(value).exists():
            time.sleep(0.01)
    elif name == "exit":
        sys.exit(int(value))


def main() -> None:
    """Each argument in turn; ``only=RANK:WORD`` is done by that rank alone."""
    for word in sys.argv[1:]:
        if word.startswith("only="):
            rank, _, word = word[5:].partition(":")
            if os.environ.get("RANK", os.environ.get("NODE_RANK", "0")) != rank:
                continue
        act(word)


if __name__ == "__main__":
    main()
