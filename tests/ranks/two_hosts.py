"""Two hosts with addresses of their own, imitated by network namespaces, one of which is cut off.

    python -m tests.ranks.two_hosts --json FILE

Both run ``torchrun`` with a rendezvous on the first. The link goes down in the middle of a run;
what each host says, and after how long it ends, is measured. Then the link comes back and the job
resumes.
Needs Linux, ``ip`` (iproute2) and the right to make network namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from normfree.analysis.environment import environment
from tests.ranks.launch import TIMEOUT

ADDRESSES = ("10.83.71.1", "10.83.71.2")
PORT = 29517
WORDS = [
    *("-m", "normfree", "train", "digits", "--data", "synthetic:64x8x1x5", "--epochs", "30"),
    *("--batch-size", "24", "--accumulate", "2", "--mixing", "mixup_cutmix", "--device", "cpu"),
    *("--checkpoint-every", "2", "--log-every", "1"),
]


def unable() -> str | None:
    """Why network namespaces cannot be made here; None if they can."""
    if shutil.which("ip") is None:
        return "there is no ip command (iproute2)"
    name = f"normfree-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not permitted: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Args:
        number: 0 for the one that all meet at.
        name: of the namespace.
        device: its end of the link.
    """

    number: int
    name: str
    device: str

    def ip(self, *words: str) -> None:
        """Run ``ip`` inside."""
        subprocess.run(["ip", "-netns", self.name, *words], check=True)

    def connect(self, *, up: bool) -> None:
        """Let the link work, or not."""
        self.ip("link", "set", self.device, "up" if up else "down")

    def start(self, out: Path, *words: str) -> subprocess.Popen[str]:
        """``torchrun`` on this host."""
        launcher = [
            *("--nnodes", "2", "--nproc-per-node", "1", "--local-addr", ADDRESSES[self.number]),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}"),
            *("--rdzv-id", "two-hosts", "--rdzv-conf", f"is_host={int(self.number == 0)}"),
        ]
        inside = ["ip", "netns", "exec", self.name, sys.executable, "-m", "torch.distributed.run"]
        return subprocess.Popen(
            [*inside, *launcher, *WORDS, "--out", str(out), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.device},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Two of them with a link in between, until the block ends."""
    own = os.getpid()
    hosts = [Host(n, f"normfree-{own}-{n}", f"nf{own}-{n}") for n in range(2)]
    with ExitStack() as stack:
        for host in hosts:
            subprocess.run(["ip", "netns", "add", host.name], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", host.name], check=True)
        first, second = hosts
        peer = ["peer", "name", second.device, "netns", second.name]
        first.ip("link", "add", first.device, "type", "veth", *peer)
        for host, address in zip(hosts, ADDRESSES, strict=True):
            host.ip("addr", "add", f"{address}/24", "dev", host.device)
            host.ip("link", "set", "lo", "up")
            host.connect(up=True)
        yield hosts


@dataclass(frozen=True)
class Ended:
    """How a host ended.

    Attributes:
        code: exit code of ``torchrun``.
        seconds: since the link was cut.
        said: what the training command wrote to standard error.
    """

    code: int
    seconds: float
    said: list[str]


def cut_off(hosts: Sequence[Host], out: Path, timeout: float, step: int) -> list[Ended]:
    """Train, cut the second host off after a step, and wait until both have ended."""
    running = [host.start(out, "--rank-timeout", f"{timeout:g}") for host in hosts]
    try:
        assert running[0].stdout is not None
        for text in running[0].stdout:
            if text.startswith(f"step {step}/"):
                break
        hosts[1].connect(up=False)
        began, seconds, done = time.monotonic(), [0.0, 0.0], set[int]()
        while len(done) < len(running):
            for number, process in enumerate(running):
                if number not in done and process.poll() is not None:
                    seconds[number] = time.monotonic() - began
                    done.add(number)
            assert time.monotonic() < began + TIMEOUT
            time.sleep(0.05)
    finally:
        errors = ended(running)
    return [
        Ended(process.returncode, round(took, 1), said(error))
        for process, took, error in zip(running, seconds, errors, strict=True)
    ]


def ended(running: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they wrote to standard error, once they have ended by themselves or were killed."""
    for process in running:
        if process.poll() is None:
            process.terminate()  # torchrun stops its ranks, too
    return [process.communicate(timeout=TIMEOUT)[1] for process in running]


def said(errors: str) -> list[str]:
    """The lines of the training command among those of the launcher."""
    return [line for line in errors.splitlines() if line.startswith("normfree")]


def resumed(hosts: Sequence[Host], out: Path) -> list[tuple[int, str, str]]:
    """Go on with both hosts."""
    hosts[1].connect(up=True)
    running = [host.start(out, "--resume") for host in hosts]
    try:
        written = [process.communicate(timeout=TIMEOUT) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(p.returncode, *both) for p, both in zip(running, written, strict=True)]


def main() -> None:
    """Run, and write what it showed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="the result file")
    parser.add_argument("--timeout", type=float, default=10, help="--rank-timeout, seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, two_hosts() as hosts:
        out = Path(directory) / "run"
        cut = cut_off(hosts, out, options.timeout, step=20)
        after = resumed(hosts, out)
    first = after[0][1].splitlines()
    result = {
        "experiment": "two_hosts",
        **environment(),
        "command": " ".join(WORDS[1:]),
        "rank_timeout": options.timeout,
        "cut_off_after_step": 20,
        "hosts": [asdict(host) for host in cut],
        "resumed": {
            "codes": [code for code, _, _ in after],
            "said": [line for line in first if "going on" in line or "after the last" in line],
        },
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
