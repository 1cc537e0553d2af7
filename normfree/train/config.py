"""A recipe: every setting of a run, flat and typed. `normfree.train.resolve` derives the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from normfree.data.crop import Crop
from normfree.data.loader import OnBadImage
from normfree.errors import UserError, unknown_name
from normfree.fields import check_types
from normfree.optim.clipping import Clip

Augment = Literal["crop_flip", "shift", "shift_flip", "none"]
Mixing = Literal["none", "mixup", "cutmix", "mixup_cutmix"]
Pairing = Literal["two_batches", "in_batch"]
TestCrop = Literal["resize_crop", "crop_resize"]
OptimizerName = Literal["sgd", "lars", "rmsprop", "adamw"]
Schedule = Literal["cosine", "step"]
SAMScope = Literal["batch", "part"]
LossName = Literal["softmax", "sigmoid"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run; each is an option of ``normfree train``.

    ``None`` means: derive it from the final values of the others, the model and the data. The
    defaults are the paper's for ImageNet. ``dataclasses.replace`` makes a variation; derived values
    follow, because nothing is derived before :func:`normfree.train.resolve.resolve`.

    >>> recipe = Recipe(model="nfnet_f0", data="folder:photos", epochs=10, batch_size=64)
    >>> recipe.clipping
    0.01
    """

    name: str = "custom"
    """What the run is called; the default run directory is `runs/NAME-N`."""
    data: str
    """Where the images come from: `digits`, `idx:DIR`, `folder:DIR` or `synthetic:N`."""

    model: str
    """Name of the network; `normfree info` lists them."""
    model_options: tuple[str, ...] = ()
    """Other fields of the model's configuration, as `field=value` in YAML: `stem_stride=1`."""
    activation: str | None = None
    """Nonlinearity of the network. None: the model's."""
    drop_rate: float | None = None
    """Dropout before the classifier. None: the model's."""
    stochastic_depth_rate: float | None = None
    """How often the last blocks are skipped. None: the model's."""
    num_classes: int | None = None
    """Outputs of the classifier. None: the classes of the data."""
    init: str | None = None
    """Weights to start from: a file of ours, timm's or the authors', or `hf:OWNER/NAME`. The
    classifier starts anew unless the file names the same classes. None: start from the seed."""
    freeze: int = 0
    """Stages, 1 to 4, that keep the weights they start from, and the stem with them; 0: none."""
    activation_checkpointing: bool = False
    """Keep only each block's input and compute the rest again: less memory, a third more time."""
    train_size: int | None = None
    """Side of a training image, in pixels. None: the model's."""
    test_size: int | None = None
    """Side of a test image, in pixels. None: the model's."""
    test_margin: int | None = None
    """Pixels of resized side that the centre crop of a test image removes.
    None: for photographs an eighth of the test size, but no more than the paper's 32; else 0."""
    test_crop: TestCrop = "resize_crop"
    """resize_crop: resize both sides, then cut the centre, as the NFNets are tested; crop_resize:
    cut a square of the centre, then resize it, which keeps the aspect ratio."""

    epochs: int
    """Passes over as many training images as there are."""
    steps: int | None = None
    """Optimizer steps. None: epochs × images / batch_size. Typing --epochs sets it to None."""
    batch_size: int
    """Images of one optimizer step."""
    accumulate: int = 1
    """Parts in which a batch is computed, one after the other, to save memory."""

    optimizer: OptimizerName = "sgd"
    """sgd: the paper's; lars; rmsprop: as EfficientNets are trained; adamw."""
    base_lr: float = 0.1
    """Peak learning rate for 256 images a step; it grows in proportion to the batch."""
    lr: float | None = None
    """Peak learning rate itself. None: base_lr × batch_size / 256. Typing --base-lr sets it to
    None."""
    schedule: Schedule = "cosine"
    """What follows the warm-up. cosine: half a cosine, down to lr_floor; step: a factor of
    step_decay every step_epochs."""
    lr_floor: float = 0.0
    """Learning rate at the end of the cosine, and the least of the steps."""
    step_decay: float = 0.97
    """Factor of the step schedule."""
    step_epochs: float = 2.4
    """Epochs between two factors of the step schedule."""
    warmup_epochs: float = 5.0
    """Epochs in which the learning rate climbs from 0 to its peak."""
    warmup_steps: float | None = None
    """Steps of the warm-up. None: warmup_epochs. Typing --warmup-epochs sets it to None."""
    momentum: float = 0.9
    """Momentum of sgd, lars and rmsprop; β₁ of adamw."""
    nesterov: bool = True
    """Nesterov's form of sgd's momentum."""
    weight_decay: float = 2e-5
    """L2 penalty on weights (adamw: decoupled); gains and biases have none."""
    clipping: float | Literal["auto"] | None = 0.01
    """AGC's λ: largest ratio of a unit's gradient norm to its weight norm; with --clip global the
    largest norm of the whole gradient. auto: λ for the batch size. None: no clipping."""
    clip: Clip = "unit"
    """Whose norms are compared. unit: each output unit's, as the paper's AGC; layer: each
    tensor's; global: the gradient's alone, without AGC."""
    agc_eps: float = 1e-3
    """AGC's ε: a weight norm below it counts as ε."""
    unclipped: tuple[str, ...] = ("classifier",)
    """Layers that AGC leaves alone: classifier (its weight), first_conv, stem, stage1 … stage4,
    head, or names of modules."""
    sam_rho: float = 0.0
    """Sharpness-aware minimization: how far the weights ascend before the gradient is taken that
    they are updated with; 0 switches it off."""
    sam_fraction: float = 1.0
    """Share of the batch whose gradient the ascent follows; the paper's cheap form has 0.2."""
    sam_scope: SAMScope = "batch"
    """batch: one ascent for the whole batch; part: each part of --accumulate ascends by its own
    gradient, as unsynchronized replicas would."""
    loss: LossName = "softmax"
    """softmax: cross-entropy over the classes; sigmoid: the sum of a binary one for each class."""
    label_smoothing: float = 0.1
    """Share of the label that is spread over all classes."""
    ema_decay: float = 0.99999
    """Cap of the averaged weights' decay; it warms up as (1 + t) / (10 + t). 0: no average."""

    augment: Augment = "crop_flip"
    """crop_flip: random crops of photographs; shift: small translations of tiny images;
    shift_flip: those, mirrored half of the time; none."""
    shift_padding: int = 4
    """Largest translation of shift, in pixels."""
    crop: Crop = "tensorflow"
    """Distribution of crop_flip's crops: tensorflow's, as in the paper, or torchvision's."""
    mixing: Mixing = "none"
    """mixup: blend two images; cutmix: put a box of one into the other; mixup_cutmix: MixUp for the
    first half of a batch, CutMix for the second."""
    mixup_alpha: float = 0.2
    """α of MixUp: an image's share is drawn from Beta(α, α)."""
    cutmix_alpha: float = 1.0
    """α of CutMix: the area left outside the box is drawn from Beta(α, α)."""
    pairing: Pairing = "two_batches"
    """What an image is mixed with. two_batches: an image of a second batch, read for this alone, as
    the authors do; in_batch: the next image of the batch, which reads half as many."""
    randaugment_layers: int = 0
    """Operations that RandAugment applies to each image after mixing; 0 switches it off."""
    randaugment_magnitude: float | None = None
    """Strength of the operations, in tenths. None: the model's."""
    quirks: bool = True
    """Operations as the authors' code computes them; no-quirks: as their names say."""
    mean: tuple[float, ...] | None = None
    """What is subtracted, per channel, in 0..255.
    None: the training images' own if they are held in memory, else ImageNet's."""
    std: tuple[float, ...] | None = None
    """What is divided by, per channel, in 0..255. None: as for mean."""
    on_bad_image: OnBadImage = "error"
    """error: stop at an unreadable image and name it; skip: go on without it and count it."""
    workers: int = 0
    """Processes that read and decode images; 0: none but the main one."""

    seed: int = 0
    """Everything random follows from it."""
    precision: Precision = "float32"
    """Arithmetic of the forward and backward pass; weights and their updates stay in float32."""
    channels_last: bool = False
    """Keep the channels of a pixel together in memory: faster on GPUs, and on most CPUs."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster afterwards."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""

    eval_every: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; there is one at the end of each epoch too."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    log_every: int = 20
    """Steps between reports of loss and speed."""

    out: Path | None = None
    """The run's directory. None: the first free `runs/NAME-N`."""
    resume: bool = False
    """Go on where the run in that directory stopped; without --out, the newest `runs/NAME-N`."""

    def __post_init__(self) -> None:
        """Refuse values that no run could have."""
        check_types(self, _flag)
        for wanted, (allowed, names) in _RANGES.items():
            for name in names:
                value = getattr(self, name)
                numbers = value if isinstance(value, tuple) else (value,)
                if value not in (None, "auto") and not all(map(allowed, numbers)):
                    shown = " ".join(map(str, numbers))
                    raise UserError(f"{_flag(name)} must be {wanted}, not {shown}")
        if not self.name or self.name in (".", "..") or {*self.name} & {*"/\\\0"}:
            raise UserError(f"--name is part of a directory's name, which {self.name!r} cannot be")
        for wrong, said in _contradictions(self):
            if wrong:
                raise UserError(said)

    @property
    def reads(self) -> int:
        """Images that a step reads: twice the batch where each is mixed with one of its own."""
        pairs = self.mixing != "none" and self.pairing == "two_batches"
        return self.batch_size * (2 if pairs else 1)


def _contradictions(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    """What does not go together, and what to say of it."""
    yield (
        recipe.accumulate > recipe.batch_size,
        f"--accumulate {recipe.accumulate} asks for more parts than the batch has images; "
        f"choose at most {recipe.batch_size}",
    )
    yield (
        recipe.clip == "global" and recipe.clipping == "auto",
        "--clipping auto is AGC's λ; with --clip global, give the largest norm of the gradient, "
        "such as --clipping 1.0",
    )
    yield (
        recipe.clip == "global" and bool({*recipe.unclipped} - {"classifier"}),
        "--unclipped is AGC's: --clip global takes the norm of the whole gradient; leave one out",
    )
    yield (
        recipe.freeze > 0 and recipe.init is None,
        f"--freeze {recipe.freeze} keeps the weights that a run starts from; give them by --init",
    )
    yield (
        recipe.optimizer != "sgd" and recipe.lr is None,
        f"--optimizer {recipe.optimizer} wants a rate of its own, base_lr is sgd's: give --lr",
    )
    yield (
        recipe.sam_fraction < 1 and recipe.sam_rho == 0,
        "--sam-fraction does nothing without --sam-rho; the paper's is --sam-rho 0.05",
    )
    yield (
        recipe.randaugment_magnitude is not None and recipe.randaugment_layers == 0,
        "--randaugment-magnitude does nothing without --randaugment-layers; the paper has 4",
    )
    yield (
        recipe.mixing != "none" and recipe.pairing == "in_batch" and recipe.batch_size < 2,
        "--pairing in_batch mixes the images of a batch with each other: it takes two or more",
    )


#: What a number must be → the test, and the settings it holds for. Finite are all of them.
_RANGES: Mapping[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "positive": (
        lambda x: x > 0,
        (
            *("epochs", "steps", "batch_size", "accumulate", "train_size", "test_size", "std"),
            *("eval_every", "checkpoint_every", "keep_checkpoints", "log_every"),
            *("mixup_alpha", "cutmix_alpha", "step_epochs", "agc_eps"),
        ),
    ),
    "positive (None switches it off)": (lambda x: x > 0, ("clipping",)),
    "above 0 and at most 1": (lambda x: 0 < x <= 1, ("sam_fraction", "step_decay")),
    "from 0 to 4": (lambda x: 0 <= x <= 4, ("freeze",)),
    "at least 0": (
        lambda x: x >= 0,
        (
            *("base_lr", "lr", "lr_floor", "warmup_epochs", "warmup_steps", "weight_decay"),
            *("sam_rho", "shift_padding", "test_margin", "workers"),
            *("randaugment_layers", "randaugment_magnitude"),
        ),
    ),
    "at least 0 and below 1": (
        lambda x: 0 <= x < 1,
        ("momentum", "label_smoothing", "ema_decay"),
    ),
    "at least 0 and below 2^63": (lambda x: 0 <= x < 2**63, ("seed",)),
}


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe in YAML's types.

    >>> recipe = Recipe(model="nfnet_pico", data="digits", epochs=1, batch_size=8, out=Path("here"))
    >>> recipe_to_dict(recipe)["out"]
    'here'
    >>> recipe_from_dict(recipe_to_dict(recipe)) == recipe
    True
    """
    return {
        name: list(value)
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in asdict(recipe).items()
    }


def recipe_from_dict(saved: Mapping[str, Any]) -> Recipe:
    """The recipe from YAML's types.

    Raises:
        UserError: a setting does not exist.
    """
    known = {field.name for field in fields(Recipe)}
    for name in saved:
        if name not in known:
            raise unknown_name("setting", name, known)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    if values.get("out") is not None:
        values["out"] = Path(values["out"])
    return Recipe(**values)
