"""What happens to training images: crop or shift, mix, RandAugment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import Flag, Off, component

if TYPE_CHECKING:
    from normfree.augment import RandAugment


@component
class CropFlip:
    """Random crops of photographs, mirrored half of the time."""

    kind: Annotated[Literal["crop_flip"], Flag("augment")] = "crop_flip"
    """crop_flip: random crops of photographs; shift: small translations of tiny images;
    shift_flip: those, mirrored half of the time; none."""
    crop: Literal["tensorflow", "torchvision"] = "tensorflow"
    """Distribution of the crops: TensorFlow's, as in the paper, or torchvision's."""


@component
class Shift:
    """Small translations of tiny images."""

    kind: Annotated[Literal["shift", "shift_flip"], Flag("augment")] = "shift"
    """As for crop_flip."""
    padding: Annotated[int, Flag("shift_padding")] = Field(default=4, ge=0)
    """Largest translation, in pixels."""
    least_epochs: Annotated[int, Flag("shift_from_epochs")] = Field(default=0, ge=0)
    """Runs of fewer epochs leave the images as they are, because they see none of them often."""

    def applies(self, epochs: int) -> bool:
        """Whether a run of this length changes the images."""
        return epochs >= self.least_epochs


@component
class Mixing:
    """MixUp and CutMix: two images become one."""

    kind: Annotated[Literal["mixup", "cutmix", "mixup_cutmix"], Flag("mixing")]
    """mixup: blend two images; cutmix: put a box of one into the other; mixup_cutmix: MixUp for the
    first half of a batch, CutMix for the second; none."""
    mixup_alpha: float = Field(default=0.2, gt=0)
    """α of MixUp: the ratio of an image is drawn from Beta(α, α)."""
    cutmix_alpha: float = Field(default=1.0, gt=0)
    """α of CutMix: the area left outside the box is drawn from Beta(α, α)."""
    pairing: Literal["two_batches", "in_batch"] = "two_batches"
    """What an image is mixed with. two_batches: an image of a second batch, read for this alone, as
    the authors do; in_batch: the next image of the batch, which reads half as many."""


@component
class RandomOperations:
    """RandAugment, after mixing."""

    layers: Annotated[int, Flag("randaugment_layers")] = Field(gt=0)
    """Operations that RandAugment applies to each image after mixing; 0 switches it off."""
    magnitude: Annotated[float | None, Flag("randaugment_magnitude")] = Field(default=None, ge=0)
    """Strength of the operations, in tenths. None: the network's."""
    quirks: bool = True
    """Operations as the authors' code computes them; no-quirks: as their names say."""

    def strength(self, network: str, advised: int) -> float:
        """The magnitude: the recipe's, else the network's.

        Raises:
            UserError: neither has one.
        """
        if self.magnitude is None and advised == 0:
            raise UserError(
                f"the paper has no RandAugment for {network}; give its strength, such as "
                "--randaugment-magnitude 5"
            )
        return float(advised if self.magnitude is None else self.magnitude)

    def build(self, magnitude: float) -> RandAugment:
        """The operations."""
        from normfree.augment import RandAugment

        return RandAugment(self.layers, magnitude, quirks=self.quirks)


@component
class Augmentation:
    """What happens to training images, in this order."""

    geometry: Annotated[
        Annotated[CropFlip | Shift, Field(discriminator="kind")] | None, Off("augment", "none")
    ] = CropFlip()
    mixing: Annotated[Mixing | None, Off("mixing", "none")] = None
    randaugment: Annotated[RandomOperations | None, Off("randaugment_layers", 0)] = None

    @property
    def photographs(self) -> bool:
        """Whether the images are photographs, of which crops are taken."""
        return isinstance(self.geometry, CropFlip)
