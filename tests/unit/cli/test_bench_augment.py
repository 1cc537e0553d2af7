from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, normalize
from normfree.augment.levels import to_bytes
from normfree.augment.mix import Mix, draw_mix, mix
from normfree.augment.randaugment import OPERATIONS, RandAugment, arguments
from normfree.cli import bench_augment, main

pillow_augment = bench_augment.load_peer()
Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["bench", "augment", *words])
    return end.value.code or 0  # type: ignore[return-value]


def test_both_are_timed_and_each_operation(tmp_path: Path, capsys: Capture) -> None:
    file, threads = tmp_path / "new" / "found.json", torch.get_num_threads()
    words = ("--batch-size", "6", "--part", "4", "--size", "16", "--rounds", "2")
    options = ("--magnitude", "5", "10", "--peers", "--operations")
    assert run(*words, *options, "--json", str(file)) == 0
    assert torch.get_num_threads() == threads
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 * 4 + 2 * 2 * len(OPERATIONS)
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["threads"], found["options"]["size"]) == ("augment", 1, 16)
    assert [(row["magnitude"], row["what"], row["by"]) for row in found["results"]] == [
        (magnitude, what, by)
        for magnitude in (5, 10)
        for what in ("images", "all")
        for by in ("normfree", "pillow")
    ]
    assert [row["what"] for row in found["operations"][:32:2]] == [*OPERATIONS]
    for ours, pillow in zip(found["results"][::2], found["results"][1::2], strict=True):
        assert ours["seconds"]["calls"] == 2
        speed = ours["images_per_second_per_core"]
        assert speed == pytest.approx(6 / ours["seconds"]["median"])
        faster = pillow["faster"]
        assert faster["low"] <= faster["median"] <= faster["high"]
        assert faster["median"] == pytest.approx(speed / pillow["images_per_second_per_core"])


def test_ours_alone(capsys: Capture) -> None:
    assert run("--batch-size", "2", "--size", "8", "--rounds", "2", "--layers", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_what_cannot_be_measured_is_said(capsys: Capture) -> None:
    assert run("--batch-size", "1") == 2
    assert "--batch-size must be at least 2, not 1" in capsys.readouterr().err


def test_what_is_timed_is_the_pipeline() -> None:
    options = bench_augment.Options(batch_size=10, part=4, size=24, peers=True)
    bench = bench_augment._Bench(options, 10.0)
    images, others = bench.pair
    augment = RandAugment(options.layers, 10.0)
    mixed = mix(images, others, draw_mix(bench.keys, bench.cutmix, 24, 24))
    augmented = augment(to_bytes(mixed), augment.draw(bench.keys, 24, 24))
    expected = normalize(augmented, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(torch.cat([*bench.ours()]), expected)
    assert torch.equal(torch.cat([*bench.ours(normalized=False)]), augmented)
    parts = [*bench.pillow(pillow_augment)(normalized=False)]
    assert [len(part) for part in parts] == [4, 4, 2]
    pillow = torch.cat([pillow_augment.to_batch(part) for part in parts])
    theirs = torch.cat([*bench.pillow(pillow_augment)(normalized=True)])
    assert torch.equal(theirs, normalize(pillow, IMAGENET_MEAN, IMAGENET_STD))
    assert bench.cutmix.sum() == 5


def test_pillow_mixes_the_same_images() -> None:
    images, others = bench_augment._images(12, 20).split(6)
    drawn = draw_mix(torch.arange(6), torch.arange(6) >= 3, 20, 20)
    empty = Mix(drawn.ratio, drawn.boxes.clone(), drawn.cutmix)
    empty.boxes[5] = torch.tensor([3, 3, 7, 7])
    for how in (drawn, empty):
        expected = to_bytes(mix(images, others, how)).int()
        pairs = zip(*(pillow_augment.from_batch(part) for part in (images, others)), strict=True)
        calls = pillow_augment.mixes(how)
        found = [call(*pair) for call, pair in zip(calls, pairs, strict=True)]
        difference = (pillow_augment.to_batch(found).int() - expected).abs()
        assert difference.max() <= 1  # MixUp rounds
        assert difference[3:].max() == 0


@pytest.mark.parametrize("magnitude", [3.7, 10])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "Contrast"])  # a quirk
def test_pillow_does_the_same_operations(name: str, magnitude: float) -> None:
    """To two gray levels; in shears, where half a pixel does not matter."""
    images = bench_augment._images(40, 32)
    options = bench_augment.Options(batch_size=40, size=32)
    plan = bench_augment._Bench(options, magnitude)._one_operation(name)
    assert {group.operation for group in plan.groups[0]} == {name}
    ours = RandAugment(1, magnitude)(images, plan)
    by_sign = {sign: arguments(magnitude, sign, 32, 32) for sign in (1, -1)}
    steps = pillow_augment.steps_of_each(plan)
    found = pillow_augment.to_batch(
        [
            pillow_augment.augment(image, todo, by_sign)
            for image, todo in zip(pillow_augment.from_batch(images), steps, strict=True)
        ]
    )
    same = ((ours.int() - found.int()).abs() <= 2).float().mean().item()
    assert same > (0.85 if name in ("ShearX", "ShearY") else 0.9999)


def test_without_a_checkout_the_peer_is_missed_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setattr(bench_augment, "__file__", str(tmp_path / "normfree" / "cli" / "x.py"))
    assert run("--batch-size", "2", "--size", "8", "--rounds", "2", "--peers") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "run it from a checkout" in line
