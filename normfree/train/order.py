"""The order of the training images that a recipe asks for."""

from __future__ import annotations

from normfree.data import Order, ShardOrder, Source
from normfree.data.balance import BalancedOrder
from normfree.data.sources.content import ShardedContent
from normfree.errors import UserError
from normfree.train.components import Data


def build_order(data: Data, train: Source) -> Order | None:
    """The order of each epoch; None shuffles all images with each other.

    Args:
        data: settings of the recipe.
        train: the training images, as they were opened.

    Raises:
        UserError: the images have several labels each, or do not lie in shards.

    >>> from normfree.data import open_source
    >>> digits = open_source("digits", "train")
    >>> build_order(Data(source="digits", balance="sampler"), digits)
    BalancedOrder()
    """
    if data.balance == "sampler":
        check_single(data, train)
        return BalancedOrder(train.labels)
    if data.order == "random":
        return None
    if not isinstance(train, ShardedContent):
        raise UserError(
            f"--order shards is for images in shards (wds:, parquet:), and {data.source} can be "
            "read in any order: leave it out"
        )
    return ShardOrder(train.shards, data.shard_lanes, data.shard_window, train.by_shard)


def check_single(data: Data, train: Source) -> None:
    """Refuse to balance classes of images that have several.

    Raises:
        UserError: they have.
    """
    if data.balance != "none" and train.labels.ndim == 2:
        raise UserError(
            f"--balance {data.balance} is for images of one class each, and those of {data.source} "
            "have several labels each: leave it out"
        )
