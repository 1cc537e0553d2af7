"""A real server process and real HTTP, from usual and from hostile clients."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import normfree
from normfree.cli.options import parse
from normfree.cli.serve import Options
from normfree.errors import UserError
from normfree.serve.run import listen
from tests.unit.serve.conftest import MAIN, Server, form, network, png, serving

MEBIBYTE = 2**20
HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"


def predict(server: Server, *files: tuple[str, bytes], query: str = "", **headers: str):
    body, kind = form(*files)
    answer, content = server.request("POST", f"/predict{query}", body, content_type=kind, **headers)
    return answer.status, json.loads(content)


def status_and_error(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def memory(process: subprocess.Popen[str]) -> int:
    """The most that a process has held, in KiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_an_image_gets_what_the_predictor_says(server, weights):
    status, found = predict(server, ("a.png", png()), query="?top=1")
    with Image.open(io.BytesIO(png())) as image:
        ((best,),) = normfree.load(weights).predict(image, top=1)
    assert status == 200
    (entry,) = found["images"]
    assert entry == {
        "name": "a.png",
        "classes": [{"class": best.label, "probability": pytest.approx(best.probability)}],
    }


def test_an_image_as_the_whole_body(server):
    answer, content = server.request("POST", "/predict", png(), content_type="image/png")
    assert answer.status == 200
    assert len(json.loads(content)["images"][0]["classes"]) == 2


def test_where_it_looked(server):
    _, found = predict(server, ("a.png", png()), query="?look=1")
    (entry,) = found["images"]
    assert entry["map"] == "gradient"  # the last feature map of this network has one place
    assert np.shape([c["map"] for c in entry["classes"]]) == (2, 8, 8)
    with Image.open(io.BytesIO(base64.b64decode(entry["view"].partition(",")[2]))) as view:
        assert view.size == (8, 8)


def test_a_class_activation_map_adds_up_to_the_logit(tmp_path):
    file = network(tmp_path / "large.safetensors", "nfnet_pico", "abc", test_size=64)
    with serving(file) as server:
        _, found = predict(server, ("a.png", png(64, 64)), query="?look=1")
    (entry,) = found["images"]
    assert entry["map"] == "class activation"
    logits = np.mean([c["map"] for c in entry["classes"]], axis=(1, 2))
    shares = np.exp(logits) / np.exp(logits).sum()
    assert shares == pytest.approx([c["probability"] for c in entry["classes"]], rel=1e-2)


def test_a_batch_answers_for_each(server):
    status, found = predict(server, ("a.png", png()), ("b.png", b""), ("c.png", png(8, 8)))
    assert status == 200
    assert [sorted(entry) for entry in found["images"]] == [
        ["classes", "name"],
        ["error", "name"],
        ["classes", "name"],
    ]
    assert found["images"][1]["error"] == "the file is empty"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (png()[:200], "truncated"),
        (b"%PDF-1.4 no image", "not an image in a supported format"),
        (b"<svg onload=alert(1)>", "not an image in a supported format"),
        (bomb(), "pixels"),
    ],
    ids=["empty", "truncated", "document", "script", "bomb"],
)
def test_a_file_that_is_no_image(server, content, reason):
    status, found = predict(server, ("a.png", content))
    assert status == 422
    assert reason in found["error"]
    assert found["images"][0]["error"] in found["error"]


def test_names_are_shortened_and_escaped(server):
    status, found = predict(
        server, ("<img src=x onerror=alert(1)>\x1b[2J.png", png()), ("n" * 2_000, png())
    )
    assert status == 200
    assert found["images"][0]["name"] == "<img src=x onerror=alert(1)>\\x1b[2J.png"
    assert len(found["images"][1]["name"]) == 120
    status, found = predict(server, ("n" * 50_000, png()))
    assert status == 400
    assert "multipart" in found["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?top=0", "top must be a number from 1 to 1000"),
        ("?top=99999999999999999999", "top must be"),
        ("?top=%F0%9D%9F%99", "top must be"),
        ("?look=maybe", "look must be a number from 0 to 1"),
    ],
)
def test_a_wrong_query(server, query, said):
    status, found = predict(server, ("a.png", png()), query=query)
    assert status == 400
    assert said in found["error"]


def test_too_many_images(server):
    status, found = predict(server, *[(f"{n}.png", png()) for n in range(4)])
    assert status == 400
    assert "Maximum number of files is 3" in found["error"]


def test_a_form_without_files(server):
    status, found = predict(server)
    assert (status, found) == (
        400,
        {"error": "the form has no file; send images as files of the form"},
    )


def test_a_damaged_form(server):
    answer, content = server.request(
        "POST", "/predict", b"no form", content_type="multipart/form-data; boundary=x"
    )
    assert answer.status == 400
    assert "error" in json.loads(content)


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
def test_another_type(server, kind):
    answer, content = server.request("POST", "/predict", b"{}", content_type=kind)
    assert answer.status == 415
    assert "multipart/form-data" in json.loads(content)["error"]


def test_an_image_that_is_too_large(server):
    status, found = predict(server, ("a.png", bytes(MEBIBYTE + 1)))
    assert status == 422
    assert "1,048,576 bytes allowed" in found["error"]
    answer, content = server.request(
        "POST", "/predict", bytes(MEBIBYTE + 1), content_type="image/png"
    )
    assert answer.status == 413
    assert "1,048,576" in json.loads(content)["error"]


def test_a_request_that_is_too_large(server):
    status, found = predict(server, ("a.png", bytes(5 * MEBIBYTE)))
    assert status == 413
    assert "4,194,304 bytes" in found["error"]


def test_a_request_that_hides_its_length(server):
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    head = (
        HEAD
        + b"content-type: multipart/form-data; boundary=x\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    part = b'--x\r\ncontent-disposition: form-data; name="i"; filename="a"\r\n\r\n'
    body = f"{len(part):x}\r\n".encode() + part + b"\r\n" + 80 * chunk + b"0\r\n\r\n"
    answer = server.raw(head + body)
    status, said = status_and_error(answer.partition(b"\r\n\r\n0\r\n")[0])
    assert status == 413
    assert "4,194,304 bytes" in said


def test_a_request_longer_than_it_says(server):
    body, kind = form(("a.png", png()))
    head = HEAD + f"content-type: {kind}\r\ncontent-length: {len(body) - 30}\r\n\r\n".encode()
    received = server.raw(head + body, end=True)
    assert received.startswith(b"HTTP/1.1 400") or b"HTTP/1.1 422" in received
    assert b"Traceback" not in received


def test_a_request_shorter_than_it_says_times_out(server):
    body, kind = form(("a.png", png()))
    head = HEAD + f"content-type: {kind}\r\ncontent-length: {len(body) + 9}\r\n\r\n".encode()
    assert status_and_error(server.raw(head + body[:-40])) == (
        408,
        "the upload took more than 2 seconds",
    )


def test_a_request_that_is_broken_off(server):
    body, kind = form(("a.png", png()))
    head = HEAD + f"content-type: {kind}\r\ncontent-length: {len(body) + 9}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body[:100])
    assert server.request("GET", "/health")[0].status == 200


def test_a_head_that_never_ends_is_not_waited_for(server):
    assert server.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ") == b""


def test_a_head_that_is_no_http(server):
    assert server.raw(b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"host": "evil.example"}, 421, "does not answer for evil.example"),
        ({"host": "127.0.0.1.evil.example:80"}, 421, "does not answer"),
        ({"origin": "http://evil.example"}, 403, "other sites"),
        ({"origin": "null"}, 403, "other sites"),
        ({"sec_fetch_site": "cross-site"}, 403, "other sites"),
    ],
)
def test_other_sites_are_refused(server, headers, status, said):
    found, error = predict(server, ("a.png", png()), **headers)
    assert found == status
    assert said in error["error"]


def test_no_other_site_may_read(server):
    answer, _ = server.request("OPTIONS", "/predict", access_control_request_method="POST")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/health", "/nothing"])
def test_headers_of_every_answer(server, path):
    answer, _ = server.request("GET", path)
    policy = answer.headers["content-security-policy"]
    assert answer.status == (404 if path == "/nothing" else 200)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(server):
    page = server.request("GET", "/")[1].decode()
    script = server.request("GET", "/page.js")[1].decode()
    style = server.request("GET", "/page.css")[1].decode()
    for text in (page, script, style):
        assert "http" + "://" not in text
        assert "https" + "://" not in text
    assert "innerHTML" not in script
    assert "style=" not in page
    assert "<script>" not in page


def test_health_and_model(server):
    health = json.loads(server.request("GET", "/health")[1])
    model = json.loads(server.request("GET", "/model")[1])
    assert health == {"status": "ok", "version": normfree.__version__, "busy": 0}
    assert model["name"] == "nfnet_pico"
    assert model["classes"] == ["cat", "dog"]
    assert model["limits"]["images"] == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("GET", "/../etc/passwd", 404), ("POST", "/health", 405)],
)
def test_what_is_not_there(server, method, path, status):
    answer, content = server.request(method, path)
    assert answer.status == status
    assert "error" in json.loads(content)


def test_memory_is_bounded(server):
    predict(server, ("a.png", png()))
    before = memory(server.process)
    for _ in range(6):
        predict(server, *[(f"{n}.png", bomb()) for n in range(3)])
        server.request("POST", "/predict", bytes(30 * MEBIBYTE), content_type="image/png")
    assert memory(server.process) - before < 60_000  # KiB; 30 MiB would be six times as much


def test_more_requests_than_it_takes_are_asked_to_come_back(weights):
    with serving(weights) as server:
        head = HEAD + b"content-type: image/png\r\ncontent-length: 99\r\n\r\n"
        waiting = []
        for _ in range(8):
            waiting.append(socket.create_connection(("127.0.0.1", server.port)))
            waiting[-1].sendall(head)
        while json.loads(server.request("GET", "/health")[1])["busy"] < 8:
            continue
        status, found = predict(server, ("a.png", png()))
        for connection in waiting:
            connection.close()
    assert status == 503
    assert "try again" in found["error"]


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_ends_it(weights, signum, code):
    with serving(weights) as server:
        assert server.request("GET", "/health")[0].status == 200
        server.process.send_signal(signum)
        _, errors = server.process.communicate(timeout=60)
        assert (server.process.returncode, errors) == (code, "")


def test_a_port_that_is_taken(server):
    with pytest.raises(
        UserError, match=r"cannot listen on 127\.0\.0\.1 port .*choose another --port"
    ):
        listen("127.0.0.1", server.port)


def test_the_command_of_the_container_is_understood():
    file = Path(__file__).parents[3] / "Dockerfile"
    (line,) = (line for line in file.read_text().splitlines() if line.startswith("CMD "))
    options = parse(Options, json.loads(line.removeprefix("CMD ")), prog="normfree serve")
    assert options.allowed_hosts == ("localhost", "127.0.0.1")


def test_without_the_extra(weights):
    hidden = "import sys; sys.modules['uvicorn'] = None; "
    result = subprocess.run(
        [sys.executable, "-c", hidden + MAIN, "serve", str(weights)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert (
        result.stderr == "normfree: normfree serve needs uvicorn: pip install 'normfree[serve]'\n"
    )
