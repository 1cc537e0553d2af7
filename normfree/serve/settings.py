"""What the server accepts, and from whom."""

from __future__ import annotations

from pydantic import Field

from normfree.schema import record

#: Names by which a browser on this machine reaches it.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@record
class Settings:
    """Limits of the server; together they bound its memory and the time of a request.

    >>> Settings(max_images=0)
    Traceback (most recent call last):
    normfree.errors.UserError: max_images should be greater than 0; got 0
    """

    max_images: int = Field(default=32, gt=0, le=1024)
    """Images in one request."""
    max_image_bytes: int = Field(default=2**24, gt=0)
    """Size of one image file, 16 MiB by default."""
    max_request_bytes: int = Field(default=2**26, gt=0)
    """Size of a request, 64 MiB by default. What exceeds 1 MiB of an image waits on the disk."""
    max_pixels: int = Field(default=2**25, gt=0, le=178_956_970)
    """Pixels of one image. Images are decoded one at a time."""
    max_requests: int = Field(default=8, gt=0)
    """Requests that upload or wait at a time; one more is asked to come back later."""
    max_connections: int = Field(default=64, gt=0)
    """Open connections."""
    upload_seconds: float = Field(default=30.0, gt=0)
    """Time for a request's head, and for its body."""
    allowed_hosts: tuple[str, ...] = LOOPBACK
    """Names under which browsers may reach the server; empty for any. A page of another site cannot
    reach a server on loopback by pointing its own name there (DNS rebinding)."""
