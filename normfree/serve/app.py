"""The web application: a page, its files, and a JSON endpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from normfree import __version__
from normfree.errors import printable
from normfree.inference.predictor import Predictor
from normfree.serve.answers import answer, map_kind
from normfree.serve.guard import Guard, Json
from normfree.serve.settings import Settings
from normfree.serve.uploads import uploads

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def create_app(
    predictor: Predictor,
    settings: Settings | None = None,
    *,
    log: Callable[[str], object] = print,
) -> Starlette:
    """A web application for one network; any ASGI server runs it.

    ``GET /`` is the page, ``GET /health`` says that the network answers, ``GET /model`` what it is,
    and ``POST /predict`` classifies images.

    Args:
        predictor: the network.
        settings: limits.
        log: gets a line for each unexpected error.

    Example:
        >>> from normfree.models import build_model
        >>> from normfree.weights import describe
        >>> model = build_model("nfnet_pico", num_classes=2).eval()
        >>> card = describe(model, {"classes": ["cat", "dog"], "mean": [127] * 3, "std": [64] * 3})
        >>> app = create_app(Predictor(model, card))
        >>> [route.path for route in app.routes]
        ['/', '/page.css', '/page.js', '/health', '/model', '/predict']
    """
    settings = settings or Settings()
    service = _Service(predictor, settings)
    return Starlette(
        routes=[
            *(Route(path, partial(_file, *what)) for path, what in _PAGE.items()),
            Route("/health", service.health),
            Route("/model", service.model),
            Route("/predict", service.predict, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, settings=settings, log=log)],
        exception_handlers={HTTPException: _error},
    )


class _Service:
    """The endpoints of one network, which computes one request at a time."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self.predictor, self.settings = predictor, settings
        self.kind = map_kind(predictor)
        self.one = CapacityLimiter(1)
        self.busy = 0

    async def health(self, request: Request) -> Response:
        """That the server answers."""
        return Json({"status": "ok", "version": __version__, "busy": self.busy})

    async def model(self, request: Request) -> Response:
        """What the network is, and what may be sent."""
        card, settings = self.predictor.card, self.settings
        return Json(
            {
                "name": card.model.get("name"),
                "classes": self.predictor.classes,
                "test_size": card.test_size,
                "channels": card.channels,
                "map": self.kind,
                "limits": {
                    "images": settings.max_images,
                    "image_bytes": settings.max_image_bytes,
                    "request_bytes": settings.max_request_bytes,
                    "pixels": settings.max_pixels,
                    "seconds": settings.upload_seconds,
                },
            }
        )

    async def predict(self, request: Request) -> Response:
        """Classify the images of a request."""
        top = _number(request, "top", 5, least=1, most=1000)
        look = bool(_number(request, "look", 0, least=0, most=1))
        if self.busy >= self.settings.max_requests:
            raise HTTPException(503, "too many requests at once; try again", {"retry-after": "1"})
        self.busy += 1
        try:
            async with uploads(request, self.settings) as files_:
                call = partial(answer, self.predictor, files_, self.settings, top=top, look=look)
                found = await to_thread.run_sync(call, limiter=self.one)
        finally:
            self.busy -= 1
        return _answered(found)


def _answered(found: list[dict[str, Any]]) -> Response:
    """200 where an image could be read, and 422 where none could."""
    wrong = [entry for entry in found if "error" in entry]
    if len(wrong) < len(found):
        return Json({"images": found})
    return Json({"error": f"{wrong[0]['name']}: {wrong[0]['error']}", "images": found}, 422)


def _number(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise HTTPException(
            400, f"{name} must be a number from {least} to {most}; got {printable(text, 40)!r}"
        )
    return int(text)


async def _file(name: str, kind: str, request: Request) -> Response:
    return Response((files("normfree.serve") / "page" / name).read_bytes(), media_type=kind)


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": error.detail}, error.status_code, headers=error.headers)
