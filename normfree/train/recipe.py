"""A recipe: the settings of a run, made of components. What follows from them is derived later."""

from __future__ import annotations

from typing import Annotated, Any, Self

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.components import (
    AGC,
    LARS,
    SGD,
    AdamW,
    Augmentation,
    Average,
    Batch,
    Compute,
    Cosine,
    Data,
    Epochs,
    GlobalNorm,
    Health,
    Loop,
    Loss,
    Muon,
    Network,
    Place,
    Ranks,
    RMSprop,
    SharpnessAware,
    StepDecay,
    Steps,
)
from normfree.train.flags import Off, component
from normfree.train.override import override

Optimizer = Annotated[SGD | LARS | RMSprop | AdamW | Muon, Field(discriminator="kind")]
Clipping = Annotated[AGC | GlobalNorm, Field(discriminator="kind")]
Schedule = Annotated[Cosine | StepDecay, Field(discriminator="kind")]


@component
class Recipe:
    """Every setting of a run, component by component; each is an option of ``normfree train``.

    ``None`` means: derive it from the final values of the others, the model and the data. The
    defaults are the paper's for ImageNet. :meth:`override` makes a variation; derived values
    follow, because nothing is derived before :func:`normfree.train.resolve.resolve`.

    >>> recipe = Recipe(data=Data(source="folder:photos"), model=Network(name="nfnet_f0"))
    >>> small = recipe.override(epochs=10, batch_size=64, optimizer="adamw", lr=1e-3)
    >>> small.optimizer
    AdamW(kind='adamw', rate=FixedRate(lr=0.001), betas=(0.9, 0.999), weight_decay=2e-05, eps=1e-08)
    """

    name: str = Field(default="custom", min_length=1)
    """What the run is called; the default run directory is `runs/NAME-N`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Everything random follows from it."""
    data: Data
    model: Network
    batch: Batch = Batch(size=4096)
    length: Epochs | Steps = Epochs(epochs=360)
    optimizer: Optimizer = SGD()
    clipping: Annotated[Clipping | None, Off("clipping", None)] = AGC()
    schedule: Schedule = Cosine()
    sam: Annotated[SharpnessAware | None, Off("sam_rho", 0)] = None
    ema: Annotated[Average | None, Off("ema_decay", 0)] = Average()
    loss: Loss = Loss()
    augment: Augmentation = Augmentation()
    compute: Compute = Compute()
    ranks: Ranks = Ranks()
    loop: Loop = Loop()
    health: Health = Health()
    place: Place = Place()

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.name in (".", "..") or {*self.name} & {*"/\\\0"}:
            raise UserError(f"--name is part of a directory's name, which {self.name!r} cannot be")
        mixing = self.augment.mixing
        if mixing is not None and mixing.pairing == "in_batch" and self.batch.size < 2:
            raise UserError(
                "--pairing in_batch mixes the images of a batch with each other: "
                "it takes two or more"
            )

    def override(self, **values: Any) -> Self:
        """A variation, by the flat names of the command line: ``override(ema_decay=0.999)``.

        Raises:
            UserError: a setting that does not exist, or a value that it cannot have.
        """
        return override(self, values)
