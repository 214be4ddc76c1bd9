"""A network namespace of its own, as another machine or pod has, from which servers of this one can be reached.

Its loopback listens at the servers' addresses and passes each connection on. Run as a program, this module does so.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_BYTES = 65_536


def why_not() -> str | None:
    """Why no namespace can be made here; None when one can."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no network namespace can be made: {done.stderr.strip()}"


@contextmanager
def another_network(servers: Iterable[tuple[str, int]]) -> Iterator[tuple[str, ...]]:
    """What to put before a command so that it runs in a network of its own that reaches `servers`, and nothing else."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    forwarder = None
    try:
        enter = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
        _wait_for_own_network(holder.pid)
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        places = [f"{host}:{port}" for host, port in servers]
        forwarder = subprocess.Popen(
            [sys.executable, __file__, str(holder.pid), *places], stdout=subprocess.PIPE, text=True
        )
        assert forwarder.stdout is not None
        assert forwarder.stdout.readline() == "listening\n"
        yield enter
    finally:
        for process in (forwarder, holder):
            if process is not None:
                process.kill()
                process.wait()


def _wait_for_own_network(pid: int) -> None:
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        assert Path(f"/proc/{pid}/exe").exists(), "the namespace's process has ended"


def _listen_in(pid: int, places: Iterable[tuple[str, int]]) -> dict[socket.socket, tuple[str, int]]:
    """Sockets that listen in the namespace of `pid`; this process stays in its own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        with Path(path).open("rb") as namespace:
            if libc.setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), f"can't enter {path}")

    with Path("/proc/self/ns/net").open("rb") as ours:
        enter(f"/proc/{pid}/ns/net")
        try:
            return {socket.create_server(place): place for place in places}
        finally:
            enter(f"/proc/self/fd/{ours.fileno()}")


async def _forward(listening: dict[socket.socket, tuple[str, int]]) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_BYTES):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(place: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*place)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    for server, place in listening.items():
        await asyncio.start_server(lambda r, w, place=place: serve(place, r, w), sock=server)  # type: ignore[misc]
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    names = (place.rpartition(":") for place in sys.argv[2:])
    asyncio.run(_forward(_listen_in(int(sys.argv[1]), [(host, int(port)) for host, _, port in names])))
