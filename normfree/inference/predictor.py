"""Classify images with a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from PIL import Image
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.inference.optimize import TOLERANCE, Optimized, noise, optimize, parted
from normfree.inference.preprocess import (
    CardInputs,
    ImageLike,
    card_transform,
    read_image,
    stack,
)
from normfree.weights import ModelCard

_MOST_IMAGES = 32
_MOST_PIXELS = 2**21  # per batch: 32 images of 256 × 256


@dataclass(frozen=True)
class Prediction:
    """A predicted class.

    Attributes:
        label: name of the class.
        probability: its probability, 0 to 1.
    """

    label: str
    probability: float


class Predictor:
    """A trained network with its preprocessing; :func:`normfree.load` creates one from a file.

    Args:
        model: network from normalized images to logits, in evaluation mode.
        card: classes and preprocessing.
        device: device of the network.
        source: name of the network in messages.
        optimize: whether to call :meth:`optimize` at once.

    Raises:
        UserError: the card lacks classes, mean or std.

    Example:
        >>> from normfree.models import build_model
        >>> from normfree.weights import describe
        >>> model = build_model("nfnet_pico", num_classes=2, in_channels=1).eval()
        >>> card = describe(model, {"classes": ["cat", "dog"], "mean": [127.5], "std": [64.0]})
        >>> predictor = Predictor(model, card)
        >>> predictor
        Predictor(nfnet_pico, classes=2, size=8, device=cpu)
        >>> images = [np.zeros((20, 30), np.uint8), np.full((16, 16), 255, np.uint8)]
        >>> predictor.probabilities(images).shape
        (2, 2)
        >>> [len(predictions) for predictions in predictor.predict(images, top=1)]
        [1, 1]
    """

    def __init__(
        self,
        model: nn.Module,
        card: ModelCard,
        device: str = "cpu",
        source: str = "the network",
        *,
        optimize: bool = False,
    ) -> None:
        if card.missing or not card.classes:
            said = ", ".join(card.missing) or "classes"
            raise UserError(
                f"{source} has weights, but not all that normfree train writes with them: its card "
                f"lacks {said}"
            )
        self.model = model
        self.card = card
        self.device = device
        self.source = source
        self.classes: tuple[str, ...] = card.classes
        self.transform = card_transform(card)
        self.inputs = CardInputs(card, device)
        #: Images per batch; bounds the memory.
        self.batch_size = max(1, min(_MOST_IMAGES, _MOST_PIXELS // card.test_size**2))
        #: How the form of the network was chosen; None before :meth:`optimize`.
        self.optimized: Optimized | None = None
        self._trained = model
        if optimize:
            self.optimize()

    def __repr__(self) -> str:
        return (
            f"Predictor({self.card.model.get('name')}, classes={len(self.classes)}, "
            f"size={self.card.test_size}, device={self.device})"
        )

    @property
    def trained(self) -> nn.Module:
        """The network as it was given, whatever form :meth:`optimize` predicts with."""
        return self._trained

    def optimize(
        self,
        images: ImageLike | Iterable[ImageLike] | None = None,
        *,
        batch_size: int = 1,
        tolerance: float = TOLERANCE,
        forms: Iterable[str] | None = None,
        seconds: float = 10.0,
    ) -> Optimized:
        """Measure forms of the network on this machine, and predict with the fastest from now on.

        Args:
            images: representative images. A quarter measures the error, the others calibrate int8.
                Without images, noise measures the error, and int8 is left out.
            batch_size: number of images to be fast for; any number is classified correctly.
            tolerance: largest difference of a logit, divided by the largest logit. The default
                allows float32 only; bfloat16 needs about 0.03, int8 about 0.1.
            forms: see :func:`normfree.inference.optimize`.
            seconds: see :func:`normfree.inference.optimize`.

        Returns:
            What was measured; ``print`` shows it as a table.

        Raises:
            UserError: no form can be built within the tolerance.
        """
        checked, calibration = noise(8, self.card.channels, self.card.test_size, self.device), None
        if images is not None:
            given = list(self._transformed(images))
            if not given:
                raise UserError("optimizing needs at least 4 images; got 0")
            checked, calibration = parted(self.inputs.normalize(stack(given)))
        self.optimized = optimize(
            self._trained,
            checked,
            batch_size,
            tolerance=tolerance,
            forms=forms,
            calibration=calibration,
            seconds=seconds,
        )
        self.model = self.optimized.network
        return self.optimized

    def __call__(
        self, images: ImageLike | Iterable[ImageLike], top: int = 5
    ) -> list[list[Prediction]]:
        """See :meth:`predict`."""
        return self.predict(images, top)

    def predict(
        self, images: ImageLike | Iterable[ImageLike], top: int = 5
    ) -> list[list[Prediction]]:
        """Predict the most likely classes of images.

        Args:
            images: one image or several, of any size: paths, Pillow images, uint8 arrays (h, w)
                or (h, w, c), or one array (n, h, w, c).
            top: number of classes per image.

        Returns:
            A list for each image, most likely class first; also for a single image.

        Raises:
            BadImageError: names the file that cannot be read.
            UserError: something is no image, or the network's answer is not finite.
        """
        if top < 1:
            raise UserError(f"top must be positive; got {top}")
        return [self._named(row, top) for row in self.probabilities(images)]

    def probabilities(
        self, images: ImageLike | Iterable[ImageLike]
    ) -> Float32[np.ndarray, "n classes"]:
        """The probability of every class.

        With the loss ``softmax``, each row sums to one, unless the network has more outputs than
        classes. With ``sigmoid``, the classes are independent.

        Args:
            images: see :meth:`predict`.

        Raises:
            BadImageError: names the file that cannot be read.
            UserError: something is no image, or the network's answer is not finite.
        """
        waiting = self._transformed(images)
        rows = [np.empty((0, len(self.classes)), np.float32)]
        while batch := list(islice(waiting, self.batch_size)):
            logits = self.logits(stack(batch)).float()
            shares = logits.sigmoid() if self.card.loss == "sigmoid" else logits.softmax(dim=1)
            # A network may have more outputs than classes; the extra outputs have no name.
            rows.append(shares[:, : len(self.classes)].cpu().numpy())
        return np.concatenate(rows)

    @torch.no_grad()
    def logits(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The network's logits for images that already have their final size.

        Args:
            images: pixel values from 0 to 255, uint8 or float; this method normalizes them.

        Raises:
            UserError: the images have another shape, or the logits are not finite.
        """
        if images.ndim != 4 or images.shape[1] != self.card.channels:
            raise UserError(
                f"expected images (n, {self.card.channels}, height, width); got "
                f"{tuple(images.shape)}"
            )
        logits = self.model(self.inputs.normalize(images))
        if not logits.isfinite().all():
            raise UserError(
                f"the logits of {self.source} are not finite; its weights or its card are damaged"
            )
        return logits

    def _transformed(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[np.ndarray]:
        for index, image in enumerate(_one_by_one(images)):
            pixels = read_image(image, self.card.channels, f"image {index}")
            yield self.transform(pixels)

    def _named(self, shares: np.ndarray, top: int) -> list[Prediction]:
        values, indices = torch.from_numpy(shares).topk(min(top, len(self.classes)))
        found = zip(values.tolist(), indices.tolist(), strict=True)
        return [Prediction(self.classes[index], value) for value, index in found]


def _one_by_one(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    one = isinstance(images, str | Path | Image.Image)
    if one or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable):
        raise UserError(f"expected an image or several; got {type(images).__name__}")
    return images
