"""The page of a network on the Hugging Face Hub: ``README.md``, written from its model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from normfree.errors import printable
from normfree.weights.card import ModelCard, plain_card

#: Split and name of a result → metrics of a run that have it, the first that is there.
RESULTS = {
    ("test", "Top-1 accuracy"): ("test_top1",),
    ("validation", "Top-1 accuracy"): ("val_top1_ema", "val_top1"),
}
_MOST_CLASSES = 100


def data_name(source: str) -> str:
    """A data source without the place where it lies on this machine.

    >>> data_name("folder:/home/ann/pets/"), data_name("digits"), data_name("csv:a/b.csv#label=x")
    ('folder:pets', 'digits', 'csv:b.csv')
    """
    kind, colon, place = source.partition(":")
    place = place.partition("#")[0].partition("?")[0]
    return kind + colon + place.rstrip("/").rpartition("/")[2]


def model_page(
    card: ModelCard, repository: str, *, parameters: int, license_id: str | None = None
) -> str:
    """The page: metadata in YAML that the hub reads, then Markdown for people.

    Args:
        card: of the network; its metrics are the results.
        repository: ``owner/name``.
        parameters: number of parameters.
        license_id: the hub's name of the license of the weights; None states none.

    Example:
        >>> card = ModelCard(
        ...     model={"name": "nfnet_pico", "num_classes": 2, "in_channels": 1}, test_size=8,
        ...     recipe="digits", data="digits", metrics={"val_top1_ema": 0.994},
        ... )
        >>> page = model_page(card, "ann/digits", parameters=350_000)
        >>> "| Top-1 accuracy | validation | 99.40 % |" in page
        True
    """
    about = yaml.safe_dump(
        _metadata(card, repository, license_id), sort_keys=False, allow_unicode=True
    )
    parts = [f"---\n{about}---", _introduction(card, repository, parameters), _use(repository)]
    parts += [_results(card), _input(card), _classes(card), _closing(license_id)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(card: ModelCard, repository: str, license_id: str | None) -> dict[str, Any]:
    """What the hub filters and shows by."""
    data = data_name(card.data) if card.data else None
    found: dict[str, Any] = {"license": license_id} if license_id else {}
    found |= {
        "library_name": "normfree",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "safetensors", "normalizer-free"],
    }
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"type": data, "name": data, "split": split},
            "metrics": [{"type": "accuracy", "name": name, "value": value}],
        }
        for split, name, value in _measured(card.metrics)
    ]
    if results and data:
        name = repository.rpartition("/")[2]
        found["model-index"] = [{"name": name, "results": results}]
    return found


def _measured(metrics: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Split, name and value of what the page shows."""
    found = []
    for (split, name), keys in RESULTS.items():
        values = [metrics[key] for key in keys if isinstance(metrics.get(key), int | float)]
        found += [(split, name, float(value)) for value in values[:1]]
    return found


def _introduction(card: ModelCard, repository: str, parameters: int) -> str:
    trained = [f"with the recipe {_code(card.recipe)}"] if card.recipe else []
    trained += [f"on {_code(data_name(card.data))}"] if card.data else []
    epochs = card.metrics.get("epoch")
    if isinstance(epochs, int | float):
        trained.append(f"(weights of epoch {epochs:g})")
    how = f", trained {' '.join(trained)}" if trained else ""
    version = f" by normfree {_text(card.normfree)}" if card.normfree else ""
    return (
        f"# {_text(repository.rpartition('/')[2])}\n\n"
        f"An image classifier without normalization layers: {_code(card.model['name'])}, "
        f"{parameters:,} parameters{how}{version}.\n\n"
        "<!-- Say here where the images come from, what the network is for, and what not. -->"
    )


def _use(repository: str) -> str:
    return (
        "## Use\n\n```python\nimport normfree  # with the extra: normfree[hub]\n\n"
        f'predictor = normfree.load("hf:{repository}")\n'
        'for guess in predictor.predict("image.jpg", top=3)[0]:\n'
        "    print(guess.label, guess.probability)\n```\n\n"
        "`model.safetensors` holds the weights and, in its metadata, the card that is also in\n"
        "`model.json`. Loading runs no code of this repository."
    )


def _results(card: ModelCard) -> str:
    rows = [
        f"| {name} | {split} | {100 * value:.2f} % |"
        for split, name, value in _measured(card.metrics)
    ]
    if not rows:
        return ""
    note = (
        "The validation images chose these weights among those of all epochs, so the accuracy on\n"
        "them is slightly optimistic."
    )
    return "\n".join(["## Results\n", "| metric | images | |", "|---|---|---|", *rows, "", note])


def _input(card: ModelCard) -> str:
    plain = plain_card(card)
    rows = [
        ("channels", card.channels),
        ("side, pixels", card.test_size),
        ("resizing", plain["resize"]),
        ("mean of each channel, 0 to 255", _numbers(card.mean)),
        ("standard deviation", _numbers(card.std)),
    ]
    lines = [f"| {name} | {_text(value)} |" for name, value in rows]
    return "\n".join(["## Input\n", "| | |", "|---|---|", *lines])


def _numbers(values: Iterable[float] | None) -> str:
    return "unknown" if values is None else ", ".join(f"{value:.6g}" for value in values)


def _classes(card: ModelCard) -> str:
    if not card.classes:
        return ""
    shown = ", ".join(map(_code, card.classes[:_MOST_CLASSES]))
    more = len(card.classes) - _MOST_CLASSES
    rest = f", and {more:,} more in `model.json`" if more > 0 else ""
    return f"## Classes\n\n{len(card.classes):,}: {shown}{rest}."


def _closing(license_id: str | None) -> str:
    stated = "" if license_id else "No license has been stated for these weights.\n\n"
    return (
        f"{stated}The method: Brock, De, Smith and Simonyan, *High-Performance Large-Scale Image\n"
        "Recognition Without Normalization*, 2021, [arXiv:2102.06171]"
        "(https://arxiv.org/abs/2102.06171)."
    )


def _text(value: object) -> str:
    """Any text, so that it cannot be markup: names of classes come from files."""
    shown = printable(str(value), 200)
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#!" else c for c in shown)


def _code(value: object) -> str:
    """A name as code; a backtick in it would end the code."""
    return f"`{printable(str(value), 200).replace('`', chr(39)).replace('|', '/')}`"
