"""Runs a command and counts the CPU of all that it starts.

`python -m platform_experiments.embedded.counting FD COMMAND`. A JVM may outlive the command that started it by a
moment, and its CPU would be lost. This process adopts what the command leaves behind, waits for it, and writes the CPU
seconds of all of them to the file descriptor FD.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


def main() -> None:
    """Exit with the command's exit code."""
    descriptor, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    # Ctrl-C reaches the command too, which decides. A handler, since what is ignored stays so in the command.
    signal.signal(signal.SIGINT, lambda *_: None)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    times = os.times()
    os.write(int(descriptor), f"{times.children_user + times.children_system}".encode())
    raise SystemExit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
