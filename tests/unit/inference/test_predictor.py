from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import normfree
from normfree.data import EvalTransform
from normfree.errors import BadImageError, UserError
from normfree.inference import Prediction, Predictor, card_transform, export_model
from normfree.nn.loss import softmax_cross_entropy
from normfree.weights import ModelCard, convert, describe, save_model
from tests.unit.weights.files import pico, write_haiku

CARD = {"classes": ["a", "b", "c", "d", "e"], "mean": [100.0, 110.0, 120.0], "std": [50.0] * 3}


@pytest.fixture
def predictor() -> Predictor:
    model = pico(num_classes=6)
    return Predictor(model, describe(model, CARD))


def photographs(count: int = 5) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(count)]


def by_hand(model: nn.Module, image: np.ndarray) -> Tensor:
    x = torch.from_numpy(EvalTransform(8, margin=0)(image)).double()
    x = (x - torch.tensor(CARD["mean"])) / torch.tensor(CARD["std"])  # type: ignore[arg-type]
    with torch.no_grad():
        return model(x.permute(2, 0, 1)[None].float())[0].double()


def test_probabilities_are_what_the_network_says(predictor: Predictor) -> None:
    found = predictor.probabilities(photographs())
    want = [by_hand(predictor.model, image).softmax(dim=0)[:5].numpy() for image in photographs()]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_predictions_are_the_likeliest_first(predictor: Predictor) -> None:
    shares = predictor.probabilities(photographs())
    for row, found in zip(shares, predictor(photographs(), top=3), strict=True):
        order = np.argsort(-row)[:3]
        assert found == [Prediction("abcde"[i], float(row[i])) for i in order]
    assert [len(found) for found in predictor.predict(photographs(2), top=99)] == [5, 5]


def test_sigmoid_asks_each_class_alone(predictor: Predictor) -> None:
    card = dataclasses.replace(predictor.card, loss="sigmoid")
    image = photographs(1)[0]
    (found,) = Predictor(predictor.model, card).probabilities(image)
    np.testing.assert_allclose(found, by_hand(predictor.model, image).sigmoid()[:5], atol=1e-6)


@pytest.mark.parametrize("kind", ["path", "text", "pillow", "array", "batch", "generator"])
def test_images_of_every_kind(kind: str, predictor: Predictor, tmp_path: Path) -> None:
    images: Any = photographs(3)
    if kind in ("path", "text"):
        paths = [tmp_path / f"{i}.png" for i in range(3)]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        given: Any = paths if kind == "path" else [str(path) for path in paths]
    elif kind == "pillow":
        given = [Image.fromarray(image) for image in images]
    elif kind == "batch":
        images = np.stack([image[:20] for image in images])
        given = images
    else:
        given = images if kind == "array" else (image for image in images)
    want = [by_hand(predictor.model, image).softmax(dim=0)[:5] for image in images]
    np.testing.assert_allclose(predictor.probabilities(given), np.stack(want), atol=1e-6)
    one = given[0] if kind != "generator" else images[0]
    assert predictor.probabilities(one).shape == (1, 5)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_images_of_pillow_are_read_as_their_files_are(
    mode: str, predictor: Predictor, tmp_path: Path
) -> None:
    image = Image.fromarray(photographs(1)[0])
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) << 8) + 7)
    else:
        image = image.convert(mode)
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(path)
    want, found = predictor.probabilities(path), predictor.probabilities(image)
    np.testing.assert_array_equal(found, want)


def test_gray_and_color() -> None:
    gray = np.arange(100, dtype=np.uint8).reshape(10, 10)
    model = pico()
    predictor = Predictor(model, describe(model, CARD))
    want = predictor.probabilities(np.repeat(gray[:, :, None], 3, axis=2))
    for image in (gray, gray[:, :, None], Image.fromarray(gray)):
        np.testing.assert_array_equal(predictor.probabilities(image), want)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        torch.zeros(1, 3, 8, 8),
        [3],
        None,
    ],
)
def test_what_is_no_image_is_said(image: Any, predictor: Predictor) -> None:
    with pytest.raises(UserError, match="image"):
        predictor.predict(image)


@pytest.mark.parametrize("shape", [(0, 0), (0, 8), (8, 0, 3), (0, 0, 1)])
def test_an_empty_image_is_said(shape: tuple[int, ...], predictor: Predictor) -> None:
    with pytest.raises(UserError, match="image 0 is empty: it has the shape"):
        predictor.predict(np.zeros(shape, np.uint8))


def test_a_predictor_is_shown_in_short(predictor: Predictor) -> None:
    size = predictor.card.test_size
    said = f"Predictor(nfnet_pico, classes={len(predictor.classes)}, size={size}, device=cpu)"
    assert repr(predictor) == said


def test_an_unreadable_file_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"none\.jpg"):
        predictor.predict([tmp_path / "none.jpg"])


def test_no_images_have_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert predictor.probabilities([]).shape == (0, 5)


def test_memory_is_bounded_by_the_batch() -> None:
    class Largest(nn.Module):
        most = 0

        def forward(self, x: Tensor) -> Tensor:
            Largest.most = max(Largest.most, x.numel())
            return torch.zeros(len(x), 5)

    model = pico()
    for size in (8, 256, 1024, 4096):
        card = describe(model, {**CARD, "test_size": size})
        count = Predictor(Largest(), card).batch_size
        assert 1 <= count <= 32
        assert count == 1 or count * size**2 <= 2**21
    predictor = Predictor(Largest(), describe(model, CARD))
    assert predictor.probabilities(photographs(1) * 70).shape == (70, 5)
    assert Largest.most == 32 * 3 * 8 * 8


def test_logits_take_images_of_their_final_size(predictor: Predictor) -> None:
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(predictor.logits(x), predictor.logits(x.float()))
    assert predictor.logits(x).shape == (4, 6)
    with pytest.raises(UserError, match=r"expected images \(n, 3, height, width\)"):
        predictor.logits(x[:, :1])


def test_answers_that_are_not_finite_are_said(predictor: Predictor) -> None:
    with torch.no_grad():
        predictor.model.classifier.bias[0] = float("nan")  # type: ignore[index,union-attr]
    with pytest.raises(UserError, match="not finite"):
        predictor.predict(photographs())


def test_a_card_says_how_images_are_cut() -> None:
    card = ModelCard(model={"name": "nfnet_pico"}, test_size=64, test_margin=16)
    assert card_transform(card) == EvalTransform(64, 16)
    card = dataclasses.replace(card, test_crop="crop_resize")
    assert card_transform(card) == EvalTransform(64, 16, keep_aspect=True)


def test_every_file_of_a_network_predicts_the_same(tmp_path: Path) -> None:
    model = pico()
    card = describe(model, CARD)
    save_model(model, tmp_path / "a.safetensors", card=card)
    for name in ("a.onnx", "a.pt2", "b.safetensors"):
        export_model(model, tmp_path / name, card)
    want = normfree.load(tmp_path / "a.safetensors").probabilities(photographs())
    for name in ("a.onnx", "a.pt2", "b.safetensors"):
        predictor = normfree.load(str(tmp_path / name), trusted=True)
        assert predictor.card == card
        np.testing.assert_allclose(predictor.probabilities(photographs()), want, atol=1e-6)


def test_published_weights_are_fed_as_imagenet_is(tmp_path: Path) -> None:
    path = write_haiku(pico(), tmp_path / "F0_haiku.npz")
    convert(path, tmp_path / "ours.safetensors")
    theirs, ours = normfree.load(path), normfree.load(tmp_path / "ours.safetensors")
    assert theirs.classes == ours.classes == tuple("01234")
    want = ours.probabilities(photographs())
    np.testing.assert_array_equal(theirs.probabilities(photographs()), want)


def test_the_loss_of_the_logits_is_differentiable_by_the_model_itself() -> None:
    """``predictor.model`` is the network itself, which can be trained further."""
    model = pico()
    predictor = Predictor(model, describe(model, CARD))
    assert predictor.model is model
    loss = softmax_cross_entropy(predictor.model(torch.zeros(2, 3, 8, 8)), torch.eye(5)[:2])
    loss.sum().backward()
    assert model.classifier.weight.grad is not None
