"""Start ranks as a launcher does, without one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

TIMEOUT = 240  # seconds, of which ranks need a small part


def start(world: int, *words: str, **environment: str) -> list[subprocess.Popen[str]]:
    """One process for each rank, that runs ``python -m`` these words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **shared, "RANK": str(r), "LOCAL_RANK": str(r), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(world)
    ]


def finish(ranks: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each rank."""
    try:
        written = [rank.communicate(timeout=TIMEOUT) for rank in ranks]
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
                rank.communicate()
    return [(rank.returncode, *both) for rank, both in zip(ranks, written, strict=True)]
