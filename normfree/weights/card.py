"""The model card in a weights file: which network it is and how to preprocess its input.

All file types share one schema: JSON under :data:`KEY` in the metadata of a ``.safetensors`` or
``.onnx``, an extra file in a ``.pt2``, plain values in a checkpoint. Files that a card names are
never opened, and every field is bounds-checked before a network is built from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD
from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.schema import Field, from_plain, record, to_plain
from normfree.weights.unpickle import shown

#: Metadata key of the card.
KEY = "normfree"
#: Version of the schema, incremented when older versions of normfree can no longer read a card.
FORMAT = 1
#: How an image is resized before it is normalized, in words for people who read the card.
RESIZE: Mapping[str, str] = MappingProxyType(
    {
        "resize_crop": "bicubic, both sides to test_size + test_margin, then the centre test_size",
        "crop_resize": "the central square of test_size / (test_size + test_margin) of the shorter "
        "side, then bicubic to test_size",
    }
)
MAX_SIDE = 4096
MAX_CLASSES = 100_000
MAX_BLOCKS = 1000
_MAX_TEXT = 4 * 2**20
_MAX_VALUES = 200_000
_MAX_NUMBER = 1e6

Text: TypeAlias = Annotated[str, Field(max_length=1000)]
Levels: TypeAlias = Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
Plain: TypeAlias = bool | int | float | Text | None
PlainList: TypeAlias = tuple[Plain, ...]


@record
class Origin:
    """The file that weights were converted from."""

    file: Text
    layout: Text
    sha256: Text


@record
class ModelCard:
    """Everything needed to rebuild a network and preprocess its input.

    Raises (when an instance is created):
        UserError: fields are missing, out of bounds, or inconsistent.

    Example:
        >>> card = ModelCard(
        ...     model={"name": "nfnet_pico", "num_classes": 2, "in_channels": 1},
        ...     classes=("cat", "dog"), mean=(127.5,), std=(64.0,), test_size=32,
        ... )
        >>> read_card(card.to_json()) == card
        True
    """

    model: dict[Text, Plain | PlainList | dict[Text, Plain | PlainList]]
    """The network's configuration, including its ``name``."""
    classes: Annotated[tuple[Text, ...], Field(max_length=MAX_CLASSES)] | None = None
    """Class names; None if unknown."""
    mean: Levels | None = None
    """Mean of each channel on the scale 0 to 255; None if unknown."""
    std: Levels | None = None
    """Standard deviation of each channel on the scale 0 to 255; None if unknown."""
    test_size: int = Field(ge=1, le=MAX_SIDE)
    """Side of the network's input images, pixels."""
    test_margin: int = Field(default=0, ge=0, le=MAX_SIDE)
    """How much larger than its center crop an image is resized, pixels."""
    test_crop: Literal["resize_crop", "crop_resize"] = "resize_crop"
    """Preprocessing rule, a key of :data:`RESIZE`."""
    filter: Literal["tensorflow", "bicubic", "bilinear"] = "tensorflow"
    """How images are resized: by TensorFlow's bicubic, or with antialiasing."""
    image_dtype: Literal["float32", "uint8"] = "float32"
    """Of resized images; ``uint8`` are rounded and clipped."""
    resize: Text | None = None
    """The preprocessing rule in words."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """``softmax`` if classes are mutually exclusive, ``sigmoid`` if they are independent."""
    normfree: Text | None = None
    """Version of normfree that wrote the weights."""
    recipe: Text | None = None
    """Recipe that trained the weights."""
    data: Text | None = None
    """Data source that the weights were trained on."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Part of each class that validated if the source had no validation images of its own."""
    metrics: dict[Text, Plain] = Field(default_factory=dict, max_length=200)
    """Metrics measured with these weights."""
    source: Origin | None = None
    """File that the weights were converted from."""
    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    """Version of this schema."""

    def __post_init__(self) -> None:
        check_network(self.model)
        channels, outputs = self.model.get("in_channels"), self.model.get("num_classes")
        if (self.mean is None) != (self.std is None):
            raise UserError("mean and std must be given together; one of them is missing")
        if self.mean is not None and self.std is not None:
            if not len(self.mean) == len(self.std) == (channels or len(self.mean)):
                raise UserError("mean and std need one value for each image channel")
            if min(self.std) <= 0:
                raise UserError("std must be positive")
        if self.classes is not None and isinstance(outputs, int) and len(self.classes) > outputs:
            raise UserError(f"{len(self.classes)} classes, but the network has {outputs} outputs")

    @property
    def channels(self) -> int:
        """Number of image channels."""
        channels = self.model.get("in_channels", 3)
        return channels if isinstance(channels, int) else 3

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of unset fields that are needed to classify an image."""
        return tuple(name for name in ("classes", "mean", "std") if getattr(self, name) is None)

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(plain_card(self), ensure_ascii=False)


def plain_card(card: ModelCard) -> dict[str, Any]:
    """A card as plain values, with the resizing rule in words and without unknown fields."""
    plain = to_plain(card) | {"resize": card.resize or _rule(card.test_crop, card.filter)}
    optional = ("classes", "mean", "std", "source")
    usual = {"filter": "tensorflow", "image_dtype": "float32", "val_fraction": 0.1}
    return {
        name: value
        for name, value in plain.items()
        if not (name in optional and value is None) and usual.get(name, ...) != value
    }


def _rule(test_crop: str, resize: str) -> str:
    """How an image is resized, in words."""
    rule = RESIZE.get(test_crop, "")
    return rule if resize == "tensorflow" else rule.replace("bicubic", f"antialiased {resize}")


def read_card(content: str | bytes | Mapping[str, Any], source: str = "the card") -> ModelCard:
    """Parse and check a card.

    Args:
        content: JSON, or plain values.
        source: name of the file in messages.

    Raises:
        UserError: the card is damaged, from a later version, or out of bounds.
    """
    try:
        if not isinstance(content, str | bytes):
            plain: Any = dict(content)
        elif len(content) > _MAX_TEXT:
            raise UserError(f"it is longer than {_MAX_TEXT:,} bytes")
        else:
            # Older versions wrote NaN and Infinity for metrics, which are not valid JSON.
            plain = json.loads(content, parse_constant=lambda _: None)
        return from_plain(ModelCard, _without_the_rule(_bounded(plain)))
    except UserError as error:
        raise UserError(f"{source} has a damaged card: {error}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{source} has a damaged card: it is not valid JSON") from None


def describe(
    model: ImageClassifier, said: ModelCard | Mapping[str, Any] | None = None
) -> ModelCard:
    """Create the card of a network.

    Args:
        model: the network.
        said: a card or some of its fields; the field ``model`` is always taken from the network.

    Raises:
        UserError: a field does not exist, is out of bounds, or does not fit the network.
    """
    config = model.config
    fields = plain_card(said) if isinstance(said, ModelCard) else dict(said or {})
    default = {"test_size": config.test_size, "normfree": version("normfree")}
    fields = {**default, **fields, "model": dataclasses.asdict(config)}
    return from_plain(ModelCard, _without_the_rule(fields))


def imagenet_fields(model: ImageClassifier) -> dict[str, Any]:
    """Preprocessing of networks published for ImageNet; classes are named by their numbers."""
    config = model.config
    if config.in_channels != len(IMAGENET_MEAN):
        return {}
    return {
        "classes": [str(label) for label in range(config.num_classes)],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "test_margin": 32,
    }


def check_network(fields: Mapping[str, Any]) -> None:
    """Reject an implausible network configuration before the network is built.

    Raises:
        UserError: the name is missing, or a number or list is out of bounds.
    """
    if not isinstance(fields.get("name"), str):
        raise UserError("it does not name a network")
    for name, value in fields.items():
        values = value if isinstance(value, list | tuple) else [value]
        numbers = [v for v in values if isinstance(v, int | float)]
        if len(values) > 64 or any(abs(number) > _MAX_NUMBER for number in numbers):
            raise UserError(f"{shown(name)} of the network is out of bounds")
    depths = fields.get("depths", ())
    blocks = sum(d for d in depths if isinstance(d, int)) if isinstance(depths, list | tuple) else 0
    if blocks > MAX_BLOCKS:
        raise UserError(f"the network has {blocks:,} blocks; at most {MAX_BLOCKS:,} are allowed")


def _without_the_rule(fields: dict[str, Any]) -> dict[str, Any]:
    """Drop the words that describe ``test_crop``, since they are added again when writing."""
    crop, resize = fields.get("test_crop", "resize_crop"), fields.get("filter", "tensorflow")
    rule = _rule(str(crop), str(resize))
    return {**fields, "resize": None} if fields.get("resize") == rule else fields


def _bounded(content: Any) -> dict[str, Any]:
    """Check the number and nesting of a card's values, which also keeps error messages short."""
    if not isinstance(content, dict):
        raise UserError("it is not a JSON object")
    left = _MAX_VALUES
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list | tuple):
            left -= len(value)
            if left < 0 or depth > 4:
                raise UserError("it has too many values, or they are nested too deeply")
            parts = value.values() if isinstance(value, dict) else value
            waiting.extend((part, depth + 1) for part in parts)
    return content
