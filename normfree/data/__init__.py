"""Pictures, from files to batches: sources, decoding, views, order, loader, augmentation."""

from __future__ import annotations

from normfree.data.augment import IMAGENET_MEAN, IMAGENET_STD, normalize, shift
from normfree.data.decode import decode
from normfree.data.loader import BadImages, Batch, eval_batches, train_batches
from normfree.data.order import InOrder, Order
from normfree.data.preprocess import center_crop_resize, resize_crop
from normfree.data.resize import resize_bicubic
from normfree.data.sources import ArraySource, Source, open_source, source_names
from normfree.data.statistics import dataset_statistics
from normfree.data.views import EvalView, TrainView, View

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArraySource",
    "BadImages",
    "Batch",
    "EvalView",
    "InOrder",
    "Order",
    "Source",
    "TrainView",
    "View",
    "center_crop_resize",
    "dataset_statistics",
    "decode",
    "eval_batches",
    "normalize",
    "open_source",
    "resize_bicubic",
    "resize_crop",
    "shift",
    "source_names",
    "train_batches",
]
