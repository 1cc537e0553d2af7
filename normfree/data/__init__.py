"""The input pipeline: data sources, decoding, transforms, batch plans, and the loader."""

from __future__ import annotations

from normfree.data.ascent import Ascent
from normfree.data.bad_images import BadImages, TooManyBadImagesError
from normfree.data.batch import Batch, MicroBatch
from normfree.data.decode import EncodedImage, decode, open_image
from normfree.data.eval_plan import EvalPlan
from normfree.data.formats import FORMATS, LIMITS, Limits, image_endings
from normfree.data.loader import eval_batches, train_batches
from normfree.data.micro_batch_plan import MicroBatchPlan
from normfree.data.order import Order
from normfree.data.plan import BatchPlan
from normfree.data.preprocess import center_crop_resize, resize_crop
from normfree.data.resize import resize_bicubic
from normfree.data.shard_order import ShardOrder
from normfree.data.sources import (
    ArraySource,
    EncodedSource,
    Opening,
    Source,
    Split,
    has_split,
    open_source,
    register_source,
    source_names,
)
from normfree.data.statistics import dataset_statistics
from normfree.data.transforms import EvalTransform, TrainTransform, Transform, ViewTransform
from normfree.data.view import Box, View, render
from normfree.data.workers import WorkerError, Workers

__all__ = [
    "FORMATS",
    "LIMITS",
    "ArraySource",
    "Ascent",
    "BadImages",
    "Batch",
    "BatchPlan",
    "Box",
    "EncodedImage",
    "EncodedSource",
    "EvalPlan",
    "EvalTransform",
    "Limits",
    "MicroBatch",
    "MicroBatchPlan",
    "Opening",
    "Order",
    "ShardOrder",
    "Source",
    "Split",
    "TooManyBadImagesError",
    "TrainTransform",
    "Transform",
    "View",
    "ViewTransform",
    "WorkerError",
    "Workers",
    "center_crop_resize",
    "dataset_statistics",
    "decode",
    "eval_batches",
    "has_split",
    "image_endings",
    "open_image",
    "open_source",
    "register_source",
    "render",
    "resize_bicubic",
    "resize_crop",
    "source_names",
    "train_batches",
]
