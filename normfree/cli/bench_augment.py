"""``normfree bench augment``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from normfree.cli.bench_output import (
    check_bounds,
    load_from_checkout,
    print_table,
    times,
    write_json,
)
from normfree.cli.options import parse
from normfree.cli.threads import torch_threads
from normfree.schema import record

if TYPE_CHECKING:
    from torch import Tensor

    from normfree.analysis.latency import Latency
    from normfree.augment.randaugment import Plan


@record
class Options:
    """Images a second that augmentation makes on this machine, for each processor core.

    Two images become one (half by MixUp, half by CutMix), which meets RandAugment's operations:
    that is "images". Then it is normalized to float32: that is "all", what training does. With
    --peers, Pillow does the same, image by image, as the workers of a data loader do: its own
    operations of the same strength, on images it already holds, with everything random drawn
    beforehand; in "all", they become a batch, and the normalization is ours. Pillow uses one core
    and is taken to lose nothing on more. The two take turns, so what slows the machine slows both.
    The images are slopes with noise.
    """

    batch_size: int = 128
    """Images of a batch."""
    part: int = 64
    """Images of it at a time."""
    size: int = 192
    """Side of the images, pixels."""
    layers: int = 4
    """Operations that each image meets."""
    magnitude: tuple[float, ...] = (10.0,)
    """Levels of RandAugment."""
    rounds: int = 20
    """Times that each is timed."""
    threads: int = 1
    """Processor cores to use."""
    device: str = "cpu"
    """Where our images are."""
    peers: bool = False
    """Compare with Pillow."""
    operations: bool = False
    """Time each operation by itself, too."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench augment [--peers] [--operations] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench augment")
    check_bounds(options, {"batch_size": 2, "part": 1, "size": 1, "layers": 0, "rounds": 2})

    from normfree.analysis.environment import environment

    with torch_threads(options.threads):
        pipelines: list[dict[str, Any]] = []
        operations: list[dict[str, Any]] = []
        for magnitude in options.magnitude:
            bench = _Bench(options, magnitude)
            pipelines += bench.pipelines()
            operations += bench.operations() if options.operations else ()
        where = environment()
    headings = ("what", "by", "level", "µs/image", "quartiles", "images/s/core", "faster")
    for rows in filter(None, (pipelines, operations)):
        print_table(headings, map(_cells, rows), left=2)
    settings = {k: v for k, v in asdict(options).items() if k not in ("json", "magnitude")}
    found = {"benchmark": "augment", **where, "options": settings}
    write_json(options.json, found | {"results": pipelines, "operations": operations})


class _Bench:
    """What is timed at one magnitude: the same images, and the same draws, for all."""

    def __init__(self, options: Options, magnitude: float) -> None:
        import torch

        from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, RandAugment

        self.options, self.magnitude = options, magnitude
        self.randaugment = RandAugment(options.layers, magnitude)
        n, size = options.batch_size, options.size
        both = _images(2 * n, size)
        self.pair = tuple(part.to(options.device) for part in both.split(n))
        self.keys = torch.arange(n)
        self.cutmix = torch.arange(n) >= n // 2
        self.scale = [
            torch.tensor(values, device=options.device) for values in (IMAGENET_MEAN, IMAGENET_STD)
        ]
        self.peer = load_peer() if options.peers else None
        self.held = self.peer.from_batch(both) if self.peer else []

    def pipelines(self) -> Iterator[dict[str, Any]]:
        for what, normalized in (("images", False), ("all", True)):
            calls = {"normfree": self._waiting(partial(_use, self.ours, normalized=normalized))}
            if self.peer:
                calls["pillow"] = partial(_use, self.pillow(self.peer), normalized=normalized)
            yield from self._compare(what, calls)

    def operations(self) -> Iterator[dict[str, Any]]:
        from normfree.augment.randaugment import OPERATIONS, RandAugment

        augment, (images, _) = RandAugment(1, self.magnitude), self.pair
        for name in OPERATIONS:
            plan = self._one_operation(name).to(self.options.device)
            calls: dict[str, Callable[[], Any]] = {}
            calls["normfree"] = self._waiting(partial(augment, images, plan))
            if self.peer:
                calls["pillow"] = self._pillow_randaugment(self.peer, plan)
            yield from self._compare(name, calls)

    def ours(self, *, normalized: bool = True) -> Iterator[Tensor]:
        """What training does, part by part."""
        from normfree.augment import draw_mix, normalize
        from normfree.augment.mix import mix_bytes

        size, device = self.options.size, self.options.device
        for keys, cutmix, images, others in zip(
            *(whole.split(self.options.part) for whole in (self.keys, self.cutmix, *self.pair)),
            strict=True,
        ):
            drawn = draw_mix(keys, cutmix, size, size).to(device)
            plan = self.randaugment.draw(keys, size, size).to(device)
            augmented = self.randaugment(mix_bytes(images, others, drawn), plan)
            yield normalize(augmented, *self.scale) if normalized else augmented

    def pillow(self, pillow: ModuleType) -> Callable[..., Iterator[Any]]:
        """The same by Pillow, as a function."""
        from normfree.augment import draw_mix, normalize
        from normfree.augment.randaugment import arguments

        n, size, length = self.options.batch_size, self.options.size, self.options.part
        mixes = pillow.mixes(draw_mix(self.keys, self.cutmix, size, size))
        steps = pillow.steps_of_each(self.randaugment.draw(self.keys, size, size))
        by_sign = {sign: arguments(self.magnitude, sign, size, size) for sign in (1, -1)}
        work = list(zip(mixes, self.held[:n], self.held[n:], steps, strict=True))
        scale = [values.cpu() for values in self.scale]

        def call(*, normalized: bool) -> Iterator[Any]:
            for part in (work[start : start + length] for start in range(0, n, length)):
                done = [
                    pillow.augment(mix(image, other), todo, by_sign)
                    for mix, image, other, todo in part
                ]
                yield normalize(pillow.to_batch(done), *scale) if normalized else done

        return call

    def _pillow_randaugment(self, pillow: ModuleType, plan: Plan) -> Callable[[], object]:
        from normfree.augment.randaugment import arguments

        steps, size = pillow.steps_of_each(plan), self.options.size
        by_sign = {sign: arguments(self.magnitude, sign, size, size) for sign in (1, -1)}
        images = self.held[: self.options.batch_size]
        return lambda: [
            pillow.augment(x, todo, by_sign) for x, todo in zip(images, steps, strict=True)
        ]

    def _one_operation(self, name: str) -> Plan:
        """A plan by which all images meet one operation, those that have a sign in halves."""
        import torch

        from normfree.augment.randaugment import OPERATIONS, SIGNED, RandAugment

        n, size = self.options.batch_size, self.options.size
        codes = torch.full((1, n), 2 * OPERATIONS.index(name))
        codes[:, n // 2 :] += name in SIGNED
        return replace(RandAugment(1, 0).draw(self.keys, size, size), codes=codes)

    def _waiting(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """The call, until an accelerator has done it."""
        import torch

        def wait() -> Any:
            result = call()
            torch.cuda.synchronize()
            return result

        return wait if self.options.device.startswith("cuda") else call

    def _compare(self, what: str, calls: dict[str, Callable[[], Any]]) -> Iterator[dict[str, Any]]:
        from normfree.analysis.latency import compare_latency

        latencies = compare_latency(calls, rounds=self.options.rounds)
        for by, latency in latencies.items():
            cores = self.options.threads if by == "normfree" else 1
            yield {
                "what": what,
                "magnitude": self.magnitude,
                "by": by,
                "images_per_second_per_core": self.options.batch_size / latency.median / cores,
                "faster": _ratio(latencies, self.options.threads) if by == "pillow" else None,
                "seconds": asdict(latency),
            }


def _ratio(latencies: dict[str, Latency], threads: int) -> dict[str, float]:
    """How many times as many images a second and core are ours; at worst and best, by quartiles."""
    ours, pillow = latencies["normfree"], latencies["pillow"]
    return {
        "median": pillow.median / ours.median / threads,
        "low": pillow.low / ours.high / threads,
        "high": pillow.high / ours.low / threads,
    }


def _use(pipeline: Callable[..., Iterator[Any]], *, normalized: bool) -> None:
    """One part after the other, each gone when the next is there: as in training."""
    for _ in pipeline(normalized=normalized):
        pass


def _images(n: int, size: int) -> Tensor:
    """Slopes with noise, as bytes (n, 3, size, size)."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    generator = torch.Generator().manual_seed(0)
    slopes = F.interpolate(torch.rand(n, 3, 12, 12, generator=generator), size, mode="bilinear")
    noise = torch.randn(slopes.shape, generator=generator)
    return (255 * slopes + 8 * noise).clamp(0, 255).to(torch.uint8)


def load_peer() -> ModuleType:
    """Pillow's side of the comparison."""
    return load_from_checkout("pillow_augment", Path(__file__).parents[1])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    images = row["images_per_second_per_core"] * row["seconds"]["median"]
    low, median, high = (1e6 * row["seconds"][key] / images for key in ("low", "median", "high"))
    return (
        row["what"],
        row["by"],
        f"{row['magnitude']:g}",
        f"{median:.0f}",
        f"{low:.0f}–{high:.0f}",
        f"{row['images_per_second_per_core']:.0f}",
        times(row["faster"]) if row["faster"] else "",
    )
