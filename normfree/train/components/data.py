"""Where images come from, how they are read, and what every network is to subtract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import Flag, component
from normfree.url_secrets import check_no_secret

if TYPE_CHECKING:
    from normfree.data import Source

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@component
class Data:
    """A source of labeled images, and how they are read."""

    source: Annotated[str, Flag("data")] = Field(min_length=1)
    """Where the images come from: `folder:DIR`, `csv:FILE`, `jsonl:FILE`, `wds:PATTERN`,
    `parquet:PATTERN`, `hf:NAME_OR_DIR`, `pack:FILE`, `idx:DIR`, `digits` or `synthetic:N`."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Part of each class that validates where a source has no validation images of its own."""
    balance: Literal["none", "sampler", "weights"] = "none"
    """For classes of unequal size. sampler: show each class equally often; weights: count each
    equally in the loss; none: as they are."""
    order: Literal["random", "shards"] = "random"
    """random: all images shuffled with each other; shards: tar shards and Parquet files in random
    order, each read from front to back, and images shuffled nearby: for what is slow to seek in."""
    shard_lanes: int = Field(default=64, ge=1, le=2**20)
    """With shards: places that are read at the same time, over all processes: a multiple of their
    number, so that each reads shards of its own."""
    shard_window: int = Field(default=1024, ge=1, le=2**31)
    """With shards: images of a lane that are shuffled with each other."""
    mean: tuple[float, ...] | None = None
    """What is subtracted, per channel, in 0..255.
    None: the training images' own if they are held in memory, else ImageNet's."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """What is divided by, per channel, in 0..255. None: as for mean."""
    test_margin: int | None = Field(default=None, ge=0, le=4096)
    """Pixels of resized side that the center crop of an evaluation image removes.
    None: for photographs an eighth of the test size, but no more than the paper's 32; else 0."""
    test_crop: Literal["resize_crop", "crop_resize"] = "resize_crop"
    """resize_crop: resize both sides, then cut the center, as the NFNets are evaluated;
    crop_resize: cut a square of the center, then resize it, which keeps the aspect ratio."""
    resize: Literal["tensorflow", "bicubic", "bilinear"] = "tensorflow"
    """The filter. tensorflow: bicubic without antialiasing, as in the paper; bicubic, bilinear:
    antialiased, as Pillow and torchvision resize. Saved with the weights."""
    image_dtype: Literal["float32", "uint8"] = "float32"
    """Of images on their way to the device. uint8 is a quarter of the memory; it rounds by half a
    gray level at most, and clips what bicubic overshoots. Saved with the weights."""
    on_bad_image: Literal["error", "skip"] = "error"
    """error: stop at an unreadable image and name it; skip: go on without it and count it."""
    max_bad_fraction: float = Field(default=0.1, ge=0, le=1)
    """With skip: stop if more than this part of all images cannot be read."""
    workers: int = Field(default=0, ge=0, le=1024)
    """Processes that read and decode images; 0: none but the main one."""
    cache: Literal["none", "ram", "disk"] = "none"
    """Keep decoded images for the next epochs, as many as fit: in memory, or in a file in
    `~/.cache/normfree` that later runs find again. Ten times as fast to read as JPEGs."""
    cache_gb: float = Field(default=4.0, gt=0)
    """Gigabytes for the cache of the training images; a quarter of that for the others."""

    def __post_init__(self) -> None:
        """Refuse two orders at once, and secrets, which would be saved."""
        check_no_secret(self.source)
        if self.balance == "sampler" and self.order == "shards":
            raise UserError(
                "--balance sampler has an order of its own, which --order shards contradicts: "
                "choose --balance weights"
            )

    def statistics(self, train: Source) -> Statistics:
        """Mean and standard deviation of each channel, in 0..255.

        Raises:
            UserError: there is not one value for each channel.
        """
        from normfree.augment import IMAGENET_MEAN, IMAGENET_STD
        from normfree.data import ArraySource, dataset_statistics

        if isinstance(train, ArraySource):
            own_mean, own_std = dataset_statistics(train)
        else:
            own_mean, own_std = IMAGENET_MEAN, IMAGENET_STD
        mean = own_mean if self.mean is None else self.mean
        std = own_std if self.std is None else self.std
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != train.channels:
                raise UserError(
                    f"--{name} has {len(values)} values, but {self.source} has {train.channels} "
                    "channels; give one for each"
                )
        return tuple(map(float, mean)), tuple(map(float, std))

    def margin(self, test_size: int, *, photographs: bool) -> int:
        """Pixels that an evaluation image is resized larger than its center crop."""
        if self.test_margin is not None:
            return self.test_margin
        if not photographs:
            return 0
        from normfree.data.preprocess import photograph_margin

        return photograph_margin(test_size)
