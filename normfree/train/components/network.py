"""Which network is trained, and from which weights it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import JsonValue

from normfree.errors import UserError
from normfree.schema import Field, to_plain
from normfree.train.flags import Flag, component
from normfree.url_secrets import check_no_secret

_OVERRIDES = ("activation", "drop_rate", "stochastic_depth_rate", "num_classes")
_SIZES = ("train_size", "test_size")


@component
class Network:
    """A network by name, what of its configuration is changed, and its initial weights."""

    name: Annotated[str, Flag("model")]
    """Name of the network; `normfree info` lists them."""
    options: Annotated[dict[str, JsonValue], Flag("model_options")] = Field(default_factory=dict)
    """Other fields of the network's configuration, as `field=value` in YAML: `stem_stride=1`."""
    activation: str | None = None
    """Nonlinearity of the network. None: the network's."""
    drop_rate: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the classifier. None: the network's."""
    stochastic_depth_rate: float | None = Field(default=None, ge=0, lt=1)
    """Probability that the last blocks are skipped. None: the network's."""
    num_classes: int | None = Field(default=None, gt=0)
    """Outputs of the classifier. None: the classes of the data."""
    train_size: int | None = Field(default=None, gt=0)
    """Side of a training image, in pixels. None: that of --init, or the network's."""
    test_size: int | None = Field(default=None, gt=0)
    """Side of an evaluation image, in pixels. None: that of --init, or the network's."""
    init: str | None = Field(default=None, min_length=1)
    """Weights to start from: `pretrained`, those published for the network; a file of ours, timm's
    or the authors', a URL of one, a run, or `hf:OWNER/NAME`, which name the network themselves. The
    classifier is new unless the file names the same classes. None: train from scratch."""
    calibrate: bool = False
    """Scale the initial gains so that convolutions have outputs of unit variance on the first
    images. The weights of --init stay as they are."""
    freeze: int = Field(default=0, ge=0, le=4)
    """Stages, 1 to 4, that keep the weights they start from, and the stem with them; 0: none."""
    activation_checkpointing: bool = False
    """Keep only each block's input and recompute the rest: less memory, a third more time."""

    def __post_init__(self) -> None:
        """Refuse what does not go together, and secrets, which would be saved."""
        check_no_secret(self.init or "")
        if self.freeze and self.init is None:
            raise UserError(
                f"--freeze {self.freeze} keeps the weights that a run starts from; "
                "give them by --init"
            )
        if "name" in self.options:
            raise UserError("--model-options cannot set name; choose the network with --model")

    def config(
        self, *, classes: int, channels: int, source: str, inferred: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The network's whole configuration; ``create_model(**config)`` builds it.

        Args:
            classes: of the data.
            channels: of the images.
            source: of the images, for messages.
            inferred: fields that the initial weights ask for, where nothing else is said.

        Raises:
            UserError: an unknown network or field, or one that does not fit the data.
        """
        from normfree.models import model_config

        values = {"in_channels": channels, "num_classes": classes, **self.options}
        if values["in_channels"] != channels:
            raise UserError(
                f"--model-options in_channels={values['in_channels']} does not fit {source}, "
                f"whose images have {channels} channels; leave it out"
            )
        if self.activation_checkpointing:
            values["activation_checkpointing"] = "block"
        for field in (*_OVERRIDES, *_SIZES):
            if getattr(self, field) is not None:
                values[field] = getattr(self, field)
        config = model_config(self.name, **{**inferred, **values})
        if config.num_classes < classes:
            raise UserError(
                f"--num-classes {config.num_classes} is fewer than the {classes} classes of "
                f"{source}; leave it out or raise it"
            )
        return to_plain(config)
