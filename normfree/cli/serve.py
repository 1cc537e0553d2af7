"""``normfree serve``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import UsageError, UserError
from normfree.schema import record

_NEEDED = ("starlette", "uvicorn", "multipart", "python_multipart", "anyio", "h11")


@record
class Options:
    """A local page to try a trained network: drop images, see classes and where it looked."""

    checkpoint: Annotated[str, Positional()]
    """A model.safetensors, a checkpoint, a run directory, what normfree export wrote, or
    hf:owner/name."""
    host: str = "127.0.0.1"
    """Address to listen on. The default is reached from this machine only; 0.0.0.0 from anywhere,
    by anyone."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which browsers may reach the server. On loopback: localhost, 127.0.0.1 and ::1 by
    default; elsewhere any."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    trust: bool = False
    """Open a .pt2 file: PyTorch's reader can run code from one, so say that you trust its maker."""
    optimize: bool = False
    """Measure forms of the network on this machine first, and predict with the fastest."""
    max_images: int = 32
    """Most images in one request."""
    max_megabytes: int = 16
    """Largest image file, in MiB; a request may have four times as much."""
    upload_seconds: float = 30.0
    """Longest time of an upload."""


def run(words: Sequence[str]) -> None:
    """Serve: ``normfree serve CHECKPOINT [--port 8000]``."""
    options = parse(Options, words, prog="normfree serve")
    if not 1 <= options.max_megabytes <= 1024:
        raise UsageError(f"--max-megabytes must be from 1 to 1024, not {options.max_megabytes}")
    try:
        from normfree.serve.run import listen, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise UserError(
            f"normfree serve needs {error.name}: pip install 'normfree[serve]'"
        ) from None
    from normfree.inference import load
    from normfree.serve.settings import LOOPBACK, Settings

    local = options.host in LOOPBACK
    settings = Settings(
        max_images=options.max_images,
        max_image_bytes=options.max_megabytes * 2**20,
        max_request_bytes=options.max_megabytes * 2**22,
        upload_seconds=options.upload_seconds,
        allowed_hosts=options.allowed_hosts or (LOOPBACK if local else ()),
    )
    with listen(options.host, options.port) as server:
        predictor = load(
            options.checkpoint, options.device, trusted=options.trust, optimize=options.optimize
        )
        if not local:
            say(f"warning: whoever reaches {options.host} can use this server", stderr=True)
        name = f"[{options.host}]" if ":" in options.host else options.host
        say(
            f"{predictor.card.model.get('name')} with {len(predictor.classes)} classes at "
            f"http://{name}:{server.getsockname()[1]} (Ctrl-C ends it)"
        )
        _flushed()
        try:
            serve(predictor, server, settings, lambda line: say(line, stderr=True))
        except KeyboardInterrupt:  # the way to end it
            say("ended")


def _flushed() -> None:
    """Whoever waits for the address through a pipe gets it now."""
    import sys

    sys.stdout.flush()
