"""The gradient of a batch, against the definition written out, with every random part at work."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normfree import create_model
from normfree.augment import RandAugment
from normfree.data import Ascent, BatchPlan, open_source, train_batches
from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.nn.loss import LOSSES, softmax_cross_entropy
from normfree.optim import SAM
from normfree.train.device_transform import DeviceTransform, Example
from normfree.train.gradient import Loss, Measured, batch_gradient, summed_loss

STAGE = DeviceTransform(
    mean=(100.0,), std=(40.0,), device="cpu", num_classes=5, label_smoothing=0.1, shift=1,
    flip=True, randaugment=RandAugment(2, 5),
)  # fmt: skip
SIZE = 24
#: Sums in another order differ by about 1e-6 of a float32 gradient, what a mistake changes by 1e-3.
ROUNDING = 4e-6
#: What decides whose gradient SAM ascends by.
ASCENTS = {
    "none": None,
    "whole": Ascent(),
    "few": Ascent(fraction=0.3),
    "others": Ascent(fraction=0.3, scope="other_batch"),
}


def network(name: str = "nfnet_pico", **fields: Any) -> ImageClassifier:
    """With dropout and stochastic depth, skip gains moved off zero."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_classes": 5, "in_channels": 1}
    settings |= {"drop_rate": 0.3, "stochastic_depth_rate": 0.4}
    model = create_model(name, **(settings | fields))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("skip_gain"):
                parameter.fill_(0.5)
        model.classifier.weight.mul_(20)
    return model


def examples(rank: int = 0, **changes: Any) -> list[Example]:
    """The micro-batches of a step, augmented."""
    source = open_source("synthetic:64x8x1x5", "train")
    settings: dict[str, Any] = {"mixing": "mixup_cutmix", "batch_size": SIZE}
    plan = BatchPlan(seed=0, examples=64, **(settings | changes))
    return list(map(STAGE, train_batches(source, None, plan, start=1, stop=2, rank=rank)))


def computed(
    micro_batches: list[Example],
    model: ImageClassifier | None = None,
    *,
    loss: Loss = softmax_cross_entropy,
    autocast: torch.dtype | None = None,
    **settings: Any,
) -> tuple[list[Tensor], Measured]:
    """Gradients, of a new network if none is given."""
    model = network() if model is None else model
    measured = batch_gradient(
        summed_loss(lambda images, keys: model(STAGE.normalized(images), keys), loss, autocast),
        micro_batches,
        batch_size=SIZE,
        **settings,
    )
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], measured


def ascended(micro_batches: list[Example], **settings: Any) -> list[Tensor]:
    """Gradients with SAM."""
    model = network()
    return computed(micro_batches, model, sam=SAM(model.parameters(), rho=0.05), **settings)[0]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """‖a − b‖ / ‖b‖ over all parameters."""
    pairs = zip(a, b, strict=True)
    gap = torch.stack([(x.double() - y.double()).norm() for x, y in pairs]).norm()
    return float(gap / torch.stack([y.double().norm() for y in b]).norm())


@pytest.mark.parametrize("pairing", ["two_batches", "in_batch"])
@pytest.mark.parametrize("ascent", ASCENTS)
def test_micro_batches_add_up_to_the_gradient_of_the_whole(pairing: str, ascent: str) -> None:
    settings: dict[str, Any] = {"pairing": pairing, "ascent": ASCENTS[ascent]}
    gradients = ascended if ASCENTS[ascent] else lambda some: computed(some)[0]
    whole = gradients(examples(**settings))
    for accumulate in (4, 5, 12):
        assert distance(gradients(examples(**settings, accumulate=accumulate)), whole) < ROUNDING


def test_ranks_add_up_to_the_gradient_of_the_whole() -> None:
    whole, measured = computed(examples())
    model, losses = network(), torch.zeros(())
    for rank in range(3):  # as if .grad were summed over them
        gradients, part = computed(examples(rank, world=3, accumulate=2), model)
        losses += part.loss
    assert distance(gradients, whole) < ROUNDING
    torch.testing.assert_close(losses, measured.loss)


def test_recomputed_activations_give_the_same_gradient() -> None:
    again = network(activation_checkpointing="block")
    assert distance(computed(examples(), again)[0], computed(examples())[0]) == 0


def by_definition(model: ImageClassifier, micro_batches: list[Example]) -> list[Tensor]:
    """∇L(w + ρ·g/‖g‖), g = ∇L of those that ascend, written out on a float64 copy."""
    model = copy.deepcopy(model).double()
    params = list(model.parameters())

    def loss(some: list[Example]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for images, targets, keys, *_ in some:
            x = STAGE.normalized(images).double()
            total = total + softmax_cross_entropy(model(x, keys), targets).sum()
        return total / SIZE

    ascent = torch.autograd.grad(loss([one.ascending for one in micro_batches]), params)
    norm = torch.stack([(g**2).sum() for g in ascent]).sum().sqrt()
    with torch.no_grad():
        for p, g in zip(params, ascent, strict=True):
            p.add_(0.05 * g / norm)
    return list(torch.autograd.grad(loss([one.descending for one in micro_batches]), params))


@pytest.mark.parametrize("fraction", [1.0, 0.25])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_sam_is_its_definition(fraction: float, accumulate: int) -> None:
    some = examples(ascent=Ascent(fraction=fraction), accumulate=accumulate)
    wanted = by_definition(network(), some)
    assert distance(ascended(some), wanted) < ROUNDING
    assert distance(computed(some)[0], wanted) > 1e-2  # and not without


@pytest.mark.parametrize("fraction", [1.0, 0.25])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_another_batch_ascends_by_definition(fraction: float, accumulate: int) -> None:
    some = examples(ascent=Ascent(fraction=fraction, scope="other_batch"), accumulate=accumulate)
    wanted = by_definition(network(), some)
    assert distance(ascended(some, scope="other_batch"), wanted) < ROUNDING
    own = [one.descending._replace(ascent=torch.arange(len(one.keys) - one.others)) for one in some]
    assert distance(ascended(own), wanted) > 1e-3  # the batch's own gradient leads elsewhere


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_micro_batches_that_ascend_alone_are_replicas_that_do_not_synchronize(
    fraction: float,
) -> None:
    ascent = Ascent(fraction=fraction, scope="micro_batch")
    some = examples(ascent=ascent, accumulate=3)
    replicas = [by_definition(network(), [one]) for one in some]
    wanted = [torch.stack(each).sum(dim=0) for each in zip(*replicas, strict=True)]
    assert distance(ascended(some, scope="micro_batch"), wanted) < ROUNDING
    assert distance(ascended(some), wanted) > 1e-3  # one ascent for all is another gradient


class Log:
    """Writes down how many images are read, computed, in which order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.layer = nn.Linear(64, 5)

    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        self.events.append(("forward", len(images)))
        return self.layer(images.flatten(1).float() / 255)

    def read(self, micro_batches: list[Example]) -> Iterator[Example]:
        for example in micro_batches:
            self.events.append(("read", len(example.keys)))
            yield example


def order_of(ascent: Ascent | None, accumulate: int) -> list[tuple[str, int]]:
    log = Log()
    sam = SAM(log.layer.parameters()) if ascent else None
    scope = ascent.scope if ascent else "batch"
    some = log.read(examples(ascent=ascent, accumulate=accumulate))
    batch_gradient(summed_loss(log.forward), some, batch_size=SIZE, sam=sam, scope=scope)
    return log.events


def test_micro_batches_are_read_one_at_a_time() -> None:
    one = [("read", 12), ("forward", 12)]
    assert order_of(None, 2) == one * 2
    alone = Ascent(fraction=0.25, scope="micro_batch")
    assert order_of(alone, 2) == [("read", 12), ("forward", 3), ("forward", 12)] * 2


def test_an_ascent_by_a_share_of_the_batch_costs_its_share() -> None:
    reads, descents = [("read", 2)] * 12, [("forward", 2)] * 12
    others = Ascent(fraction=0.3, scope="other_batch")
    assert order_of(others, 2)[:2] == [("read", 15), ("read", 16)]
    assert order_of(others, 2)[2:] == [("forward", 7), ("forward", 12), ("forward", 12)]
    ascents = [("forward", n) for n in (2, 2, 2, 1)]  # not 7 times 1, wherever the 7 were read
    assert order_of(Ascent(fraction=0.3), 12) == reads + ascents + descents


def test_each_micro_batch_is_augmented_once() -> None:
    seen: list[Tensor] = []

    def forward(images: Tensor, keys: Tensor) -> Tensor:
        seen.append(images)
        return layer(images.flatten(1).float())

    layer = nn.Linear(64, 5)
    some = examples(ascent=Ascent(), accumulate=2)
    batch_gradient(summed_loss(forward), some, batch_size=SIZE, sam=SAM(layer.parameters()))
    assert [x.data_ptr() for x in seen] == [x.images.data_ptr() for x in [*some, *some]]


def test_bfloat16_is_the_arithmetic_of_the_forward_pass_and_not_of_the_loss() -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        return softmax_cross_entropy(logits, targets)

    for autocast in (None, torch.bfloat16):
        model, seen = network(), list[torch.dtype]()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda *args, to=seen: to.append(args[2].dtype))
        gradients, measured = computed(examples(), model, autocast=autocast, loss=loss)
        assert {*seen} == {autocast or torch.float32}
        assert {g.dtype for g in gradients} | {measured.loss.dtype} == {torch.float32}


def test_bfloat16_is_near_float32_and_not_it() -> None:
    whole, _ = computed(examples())
    rounded, _ = computed(examples(), autocast=torch.bfloat16)
    assert 1e-3 < distance(rounded, whole) < 2.5e-2
    split, _ = computed(examples(accumulate=4), autocast=torch.bfloat16)
    assert distance(split, rounded) < 1e-2  # where sums are rounded depends on the processor
    assert distance(split, rounded) < distance(rounded, whole)


@pytest.mark.parametrize("ascent", ASCENTS)
def test_running_statistics_move_once_for_each_micro_batch(ascent: str) -> None:
    some = examples(ascent=ASCENTS[ascent], accumulate=2)

    def statistics(some: list[Example], rho: float) -> dict[str, Tensor]:
        model = network("bn_resnet50", widths=(16, 32, 32, 32), depths=(1, 1, 1, 1))
        sam = SAM(model.parameters(), rho=rho) if rho else None
        computed(some, model, sam=sam, statistics=list(model.buffers()))
        return dict(model.named_buffers())

    plain = statistics([one.descending for one in some], rho=0)
    got = statistics(some, rho=1e-30 if ASCENTS[ascent] else 0)  # the weights stay where they are
    for name, value in got.items():
        assert torch.equal(value, plain[name]), name
        if name.endswith("num_batches_tracked"):
            assert value == 2


def test_a_batch_that_cannot_be_finished_leaves_weights_and_statistics_as_they_were() -> None:
    def interrupted(some: list[Example]) -> Iterator[Example]:
        yield some[0]
        raise UserError("the second cannot be read")

    for ascent in (None, Ascent(), Ascent(scope="micro_batch")):
        model = network("bn_resnet50", widths=(16, 32, 32, 32), depths=(1, 1, 1, 1))
        before = {name: x.clone() for name, x in model.state_dict().items()}
        sam = None if ascent is None else SAM(model.parameters())
        with pytest.raises(UserError, match="the second"):
            batch_gradient(
                summed_loss(lambda images, keys, m=model: m(STAGE.normalized(images), keys)),
                interrupted(examples(accumulate=2, ascent=ascent)),
                batch_size=SIZE,
                sam=sam,
                scope="batch" if ascent is None else ascent.scope,
                statistics=list(model.buffers()),
            )
        assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loss_is_the_mean_over_the_mixed_examples(loss: str) -> None:
    (one,) = examples()
    logits = network()(STAGE.normalized(one.images), one.keys)
    _, measured = computed([one], loss=LOSSES[loss])
    if loss == "softmax":
        wanted = -(one.targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
    else:
        right, wrong = one.targets * logits.sigmoid().log(), (-logits).sigmoid().log()
        wanted = -(right + (1 - one.targets) * wrong).sum(dim=1).mean()
    torch.testing.assert_close(measured.loss, wanted.detach())
    assert int(measured.correct) == int((logits.argmax(1) == one.targets.argmax(1)).sum())
