"""Choose the fastest form of a network on this machine, within a stated error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError, one_line
from normfree.inference.forms import Example, Form, named

#: Default limit of the error: any float32 form passes, and neither bfloat16 nor int8 does.
TOLERANCE = 1e-3
_SECONDS = 10.0
_ROUNDS = (3, 50)
_TRIALS = 2
_TOO_SLOW = 3.0


@dataclass(frozen=True)
class Candidate:
    """A form that was considered.

    Attributes:
        form: its name.
        seconds: median time of one batch; None if it was not timed.
        speedup: over the network as given; None if it was not timed.
        error: largest difference of a logit from the float32 network's, divided by the largest
            logit; None if it was not built.
        agreement: share of the images with the same most likely class.
        skipped: why it was not considered further; empty if it was timed.
    """

    form: str
    seconds: float | None = None
    speedup: float | None = None
    error: float | None = None
    agreement: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Optimized:
    """The fastest form of a network.

    Attributes:
        network: maps normalized images to logits, in float32, for inference only.
        form: name of its form, a key of :data:`normfree.inference.FORMS`.
        batch_size: batch size that was timed.
        tolerance: largest error allowed.
        candidates: what was considered.
    """

    network: nn.Module
    form: str
    batch_size: int
    tolerance: float
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        lines = [f"{'form':19}{'ms':>9}{'faster':>9}{'error':>9}{'same top-1':>12}"]
        for row in self.candidates:
            numbers = (
                ("", 9) if row.seconds is None else (f"{1000 * row.seconds:.1f}", 9),
                ("", 9) if row.speedup is None else (f"{row.speedup:.2f}×", 9),
                ("", 9) if row.error is None else (f"{row.error:.0e}", 9),
                ("", 12) if row.agreement is None else (f"{row.agreement:.1%}", 12),
            )
            shown = "".join(f"{text:>{width}}" for text, width in numbers)
            note = "← chosen" if row.form == self.form else row.skipped
            lines.append(f"{row.form:19}{shown}  {note}".rstrip())
        within = (
            f"batches of {self.batch_size}, errors up to {self.tolerance:g} of the largest logit"
        )
        return "\n".join([*lines, f"{self.form} is the fastest for {within}"])


@torch.no_grad()
def optimize(
    model: nn.Module,
    images: Float[Tensor, "m c h w"],
    batch_size: int = 1,
    *,
    tolerance: float = TOLERANCE,
    forms: Iterable[str] | None = None,
    calibration: Float[Tensor, "k c h w"] | None = None,
    seconds: float = _SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Optimized:
    r"""Build forms of a network, check their logits, time them, and keep the fastest.

    The error of a form with logits :math:`\hat z` for the images is

    .. math:: \max |\hat z - z| \,/\, \max |z|

    where :math:`z` are the logits of the network as given. Forms with a larger error than the
    tolerance are never chosen. The others are timed in alternation, each time after one call that
    is not timed, with as many threads as PyTorch uses now; the medians are compared.

    Args:
        model: a network in float32 and evaluation mode, or the network of an ``.onnx`` file.
        images: normalized images to compute the errors on, real ones if possible.
        batch_size: number of images to be fast for; the result is right for any number.
        tolerance: largest error allowed.
        forms: forms to choose from, keys of :data:`normfree.inference.FORMS`; None for all but
            ``compiled``.
        calibration: normalized images that int8 is calibrated on, other ones than ``images``; None
            leaves int8 out.
        seconds: time to spend on timing, without building; at least three rounds are timed.
        clock: returns the time in seconds.

    Raises:
        UserError: there is no such form, or none of them can be built within the tolerance.

    Example:
        >>> from normfree.models import build_model
        >>> model = build_model("nfnet_pico", num_classes=10).eval()
        >>> x = torch.randn(8, 3, 8, 8)
        >>> found = optimize(model, x, forms=["folded", "channels_last"], seconds=0.1)
        >>> found.form in ("folded", "channels_last"), [row.form for row in found.candidates]
        (True, ['trained', 'folded', 'channels_last'])
        >>> torch.allclose(found.network(x), model(x), atol=1e-5)
        True
    """
    allowed = named(forms)
    _check(images, batch_size, tolerance, seconds)
    repeats = -(-batch_size // len(images))
    batch = images.repeat(repeats, 1, 1, 1)[:batch_size]
    example = Example(model, batch, calibration)
    trained = named(["trained"])[0]
    checker = _Checker(example, images, tolerance, clock)
    for form in [trained, *(form for form in allowed if form is not trained)]:
        checker.add(form)
    times = _alternate(checker.calls, seconds, clock)
    base = times["trained"]
    rows = [
        replace(row, seconds=times[row.form], speedup=base / times[row.form])
        if row.form in times
        else row
        for row in checker.rows
    ]
    possible = [form.name for form in allowed if form.name in times]
    if not possible:
        said = "; ".join(f"{row.form}: {row.skipped}" for row in rows if row.skipped)
        raise UserError(f"no form can be used: {said}")
    best = min(possible, key=lambda name: times[name])
    return Optimized(checker.networks[best], best, batch_size, tolerance, tuple(rows))


def noise(count: int, channels: int, size: int, device: str = "cpu") -> Float[Tensor, "n c h w"]:
    """Normally distributed images, always the same, where there are no real ones.

    >>> noise(2, 3, 8).shape
    torch.Size([2, 3, 8, 8])
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, size, size, generator=generator).to(device)


def parted(
    images: Float[Tensor, "n c h w"],
) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "k c h w"]]:
    """Every fourth image, to measure errors on, and the others, to calibrate on.

    Raises:
        UserError: there are fewer than four images.

    >>> checked, calibration = parted(torch.zeros(9, 3, 8, 8))
    >>> len(checked), len(calibration)
    (3, 6)
    """
    if len(images) < 4:
        raise UserError(f"optimizing needs at least 4 images; got {len(images)}")
    checked = torch.arange(len(images)) % 4 == 0
    return images[checked], images[~checked]


def relative_error(found: Float[Tensor, "n k"], want: Float[Tensor, "n k"]) -> float:
    """Largest difference of a logit, divided by the largest logit.

    >>> relative_error(torch.tensor([[1.0, 4.5]]), torch.tensor([[1.0, 5.0]]))
    0.1
    """
    largest = want.abs().max().item() or 1.0  # an untrained classifier may return only zeros
    return (found - want).abs().max().item() / largest


class _Checker:
    """Builds forms, and keeps those whose logits are right and that are not hopelessly slow."""

    def __init__(
        self, example: Example, images: Tensor, tolerance: float, clock: Callable[[], float]
    ) -> None:
        self.example, self.images, self.tolerance, self.clock = example, images, tolerance, clock
        self.want = example.model(images)
        self.networks: dict[str, nn.Module] = {}
        self.rows: list[Candidate] = []
        self.fastest = float("inf")

    @property
    def calls(self) -> dict[str, Callable[[], object]]:
        """Name → a call that computes one batch."""
        return {name: self._call(network) for name, network in self.networks.items()}

    def add(self, form: Form) -> None:
        """Consider a form."""
        if said := form.lacks(self.example):
            self.rows.append(Candidate(form.name, skipped=said))
            return
        try:
            network = form.build(self.example)
            found = network(self.images).float()
        except Exception as error:  # a compiler or another program may raise anything
            self.rows.append(Candidate(form.name, skipped=one_line(error)))
            return
        row = Candidate(
            form.name,
            error=relative_error(found, self.want),
            agreement=(found.argmax(1) == self.want.argmax(1)).double().mean().item(),
        )
        self.rows.append(replace(row, skipped=self._reason(row, network)))
        if not self.rows[-1].skipped:
            self.networks[form.name] = network

    def _reason(self, row: Candidate, network: nn.Module) -> str:
        """Why a form is not timed."""
        if row.error is None or not row.error <= self.tolerance:
            return f"its error is above {self.tolerance:g}"
        taken = self._least(self._call(network))
        if taken > _TOO_SLOW * self.fastest and row.form != "trained":
            return f"more than {_TOO_SLOW:g} times slower than another form"
        self.fastest = min(self.fastest, taken)
        return ""

    def _least(self, call: Callable[[], object]) -> float:
        """Shortest time of a few calls, after one that is not timed."""
        call()
        found = []
        for _ in range(_TRIALS):
            start = self.clock()
            call()
            found.append(self.clock() - start)
        return min(found)

    def _call(self, network: nn.Module) -> Callable[[], object]:
        batch = self.example.images

        def call() -> None:
            network(batch)
            if batch.device.type == "cuda":
                torch.cuda.synchronize(batch.device)

        return call


def _alternate(
    calls: Mapping[str, Callable[[], object]], seconds: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Median time of each call; before each timed call, the same call runs untimed."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    fewest, most = _ROUNDS
    begin = clock()
    for number in range(most):
        if number >= fewest and clock() - begin >= seconds:
            break
        for name, call in calls.items():
            call()  # brings its weights into the cache, and lets threads of other programs rest
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def _check(images: Tensor, batch_size: int, tolerance: float, seconds: float) -> None:
    if images.ndim != 4 or len(images) == 0:
        raise UserError(f"expected images (n, c, h, w); got the shape {tuple(images.shape)}")
    if batch_size < 1:
        raise UserError(f"batch_size must be positive; got {batch_size}")
    if not tolerance > 0:
        raise UserError(f"tolerance must be positive; got {tolerance}")
    if not 0 < seconds < float("inf"):
        raise UserError(f"seconds must be positive; got {seconds}")
