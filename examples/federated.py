"""Federated averaging with clients that learn from one image at a time.

    pip install 'normfree[demo]'
    python examples/federated.py --rounds 12

Each client holds digits of a few classes. In a round, some clients train the weights of the
server on their own images, at batch size 1, and the server averages what they return. Networks with
batch normalization have nothing to take statistics of at that batch size, and statistics of clients
with different classes do not average to those of all.

Source: algorithm 1 of McMahan et al., *Communication-Efficient Learning of Deep Networks from
Decentralized Data* (2017).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import normfree
from normfree.data import open_source
from normfree.optim import AGCSGD, param_groups

State = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """Settings of a federation."""

    clients: int = 20
    chosen: int = 10  # clients that train in a round
    rounds: int = 12
    batch_size: int = 1
    lr: float = 0.1
    clipping: float = 0.1  # λ of AGC
    seed: int = 0


def shards(labels: Tensor, clients: int, generator: torch.Generator) -> list[Tensor]:
    """Which images each client holds: two slices of the images, sorted by class."""
    slices = torch.argsort(labels, stable=True).tensor_split(2 * clients)
    dealt = torch.randperm(2 * clients, generator=generator).tolist()
    return [torch.cat([slices[a], slices[b]]) for a, b in zip(dealt[::2], dealt[1::2], strict=True)]


def local_training(
    model: nn.Module, images: Tensor, labels: Tensor, settings: Settings, generator: torch.Generator
) -> State:
    """What a client returns: the weights after one epoch over its own images."""
    model = copy.deepcopy(model).train()
    groups = param_groups(model, weight_decay=0.0, clipping=settings.clipping or None)
    optimizer = AGCSGD(groups, lr=settings.lr, momentum=0.0, nesterov=False)
    order = torch.randperm(len(images), generator=generator)
    for batch in order.split(settings.batch_size):
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model.state_dict()


def average(states: Sequence[State], counts: Sequence[int]) -> State:
    r""":math:`\sum_k \frac{n_k}{n} w_k`, in the order of the clients."""
    total = sum(counts)
    return {
        name: sum(state[name] * (n / total) for state, n in zip(states, counts, strict=True))
        for name in states[0]
    }


def federate(
    model: nn.Module, images: Tensor, labels: Tensor, settings: Settings
) -> Iterator[list[int]]:
    """Train in place; after each round, yield the clients that took part."""
    generator = torch.Generator().manual_seed(settings.seed)
    held = shards(labels, settings.clients, generator)
    for _ in range(settings.rounds):
        chosen = torch.randperm(settings.clients, generator=generator)[: settings.chosen].tolist()
        states = [
            local_training(model, images[held[k]], labels[held[k]], settings, generator)
            for k in chosen
        ]
        model.load_state_dict(average(states, [len(held[k]) for k in chosen]))
        yield chosen


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Real handwritten digits (n, 1, 8, 8), scaled by constants that need no look at the images."""
    source = open_source("digits", split)
    images = torch.stack([torch.from_numpy(source.image(i)) for i in range(len(source))])
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 64, torch.as_tensor(source.labels)


def run(settings: Settings) -> list[float]:
    """Train a small network; its accuracy on images of no client, after each round."""
    torch.manual_seed(settings.seed)
    model = normfree.create_model(
        "nfnet_pico", num_classes=10, in_channels=1, drop_rate=0.0, stochastic_depth_rate=0.0,
        widths=(16, 16, 32, 32), group_widths=(8, 8, 8, 8), depths=(1, 1, 1, 1),
    ).eval()  # fmt: skip
    images, labels = digits("val")
    accuracies = []
    for _ in federate(model, *digits("train"), settings):
        with torch.no_grad():
            accuracies.append((model(images).argmax(dim=1) == labels).double().mean().item())
    return [round(accuracy, 4) for accuracy in accuracies]


def main() -> None:
    """Train with the settings of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for field in fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = vars(parser.parse_args())
    as_json = given.pop("json")
    settings = Settings(**given)
    accuracies = run(settings)
    if as_json:
        print(json.dumps(asdict(settings) | {"top1": accuracies}))
    else:
        for number, accuracy in enumerate(accuracies, 1):
            print(f"round {number}: top-1 {accuracy:.1%}")


if __name__ == "__main__":
    main()
