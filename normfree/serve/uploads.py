"""From a request to the image files in it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from normfree.errors import printable
from normfree.serve.answers import Upload
from normfree.serve.settings import Settings

_NAME = 120  # characters of a file's name that are kept
_FIELD = 2**10  # bytes of a form field that is no file


@asynccontextmanager
async def uploads(request: Request, settings: Settings) -> AsyncIterator[list[Upload]]:
    """The files of a request, as long as they are needed.

    Args:
        request: a form (``multipart/form-data``) with any number of files, or one image as the
            whole body (``image/…`` or ``application/octet-stream``).
        settings: limits.

    Raises:
        HTTPException: the request is of another kind, has no file, or more than allowed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(
            max_files=settings.max_images, max_fields=8, max_part_size=_FIELD
        ) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not files:
                raise HTTPException(400, "the form has no file; send images as files of the form")
            yield [Upload(_shown(file.filename, n), file.file) for n, file in enumerate(files)]
    elif kind.startswith("image/") or kind == "application/octet-stream":
        yield [Upload("image", await _body(request, settings))]
    else:
        raise HTTPException(
            415,
            "send images as multipart/form-data, or one image as image/… or "
            f"application/octet-stream; got {printable(kind, 60) or 'no content type'}",
        )


async def _body(request: Request, settings: Settings) -> io.BytesIO:
    content = io.BytesIO()
    async for chunk in request.stream():
        if content.tell() + len(chunk) > settings.max_image_bytes:
            raise HTTPException(
                413, f"an image may have {settings.max_image_bytes:,} bytes; send a smaller one"
            )
        content.write(chunk)
    content.seek(0)
    return content


def _shown(name: str | None, index: int) -> str:
    return printable(name, _NAME) if name else f"image {index}"
