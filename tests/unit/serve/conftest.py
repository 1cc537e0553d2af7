from __future__ import annotations

import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from normfree.models import build_model
from normfree.weights import save_model

MAIN = "from normfree.cli import main; main()"


class Server(NamedTuple):
    """A server process."""

    port: int
    process: subprocess.Popen[str]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[Any, Any]:
        """Status and headers, and what the body says."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def raw(self, sent: bytes, *, end: bool = False) -> bytes:
        """Send bytes, and read until the server ends the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while more := connection.recv(2**16):
                received += more
        return received


@contextmanager
def serving(*words: str | Path) -> Iterator[Server]:
    """``normfree serve`` on a free port, as a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "serve", *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "http://" in line, (line, process.stderr and process.stderr.read())
            yield Server(int(line.split("http://")[1].split()[0].rpartition(":")[2]), process)
        finally:
            process.kill()


def network(path: Path, name: str = "nfnet_pico", classes: Any = ("cat", "dog"), **config) -> Path:
    """The file of an untrained network."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=len(classes), **config)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    card = {"classes": list(classes), "mean": [120.0] * 3, "std": [60.0] * 3}
    save_model(model, path, card=card)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("serve") / "model.safetensors")


@pytest.fixture(scope="session")
def server(weights: Path) -> Iterator[Server]:
    """One with small limits."""
    with serving(
        weights, "--max-images", "3", "--max-megabytes", "1", "--upload-seconds", "2"
    ) as started:
        yield started


def png(height: int = 20, width: int = 30) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    return file.getvalue()


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A form with files, and its content type."""
    parts = [
        b'--frontier\r\ncontent-disposition: form-data; name="image"; filename="'
        + name.encode("utf-8", "surrogateescape")
        + b'"\r\ncontent-type: image/png\r\n\r\n'
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--frontier--\r\n", "multipart/form-data; boundary=frontier"
