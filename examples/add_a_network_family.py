"""A network family of your own, in one file: a plain two-convolution ResNet without normalization.

A family is a configuration and a class that says what its stem, its blocks and its head are. This
one brings its own block; most need only a ``block_spec``. What the rest of normfree does follows:
parameter groups, clipping, stochastic depth, checkpointing, folding, export.

    python examples/add_a_network_family.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normfree
from normfree.models import ClassifierConfig, ImageClassifier, register_family
from normfree.models.config import ChannelTuple, Rate, Side
from normfree.models.places import Place
from normfree.nn import BlockSpec, Layers, ResidualBlock
from normfree.optim import AGCSGD, param_groups
from normfree.schema import record


@record
class BasicConfig(ClassifierConfig):
    """What every family has is enough; these are defaults."""

    widths: ChannelTuple = (16, 32, 64, 64)
    activation: str = "relu"
    drop_rate: Rate = 0.0
    stochastic_depth_rate: Rate = 0.1
    train_size: Side = 32
    test_size: Side = 32


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions; the first one strides."""

    def build_branch(self, spec: BlockSpec, layers: Layers) -> None:
        """Make the layers."""
        self.conv0 = layers.conv(spec.in_channels, spec.out_channels, 3, spec.stride)
        self.act1 = layers.act(spec.out_channels)
        self.conv1 = layers.conv(spec.out_channels, spec.out_channels, 3)

    def branch(self, a: Tensor) -> Tensor:
        """Apply them."""
        return self.conv1(self.act1(self.conv0(a)))


class BasicNet(ImageClassifier):
    """The family."""

    def build_stem(self, layers: Layers) -> tuple[nn.Module, int]:
        """One convolution."""
        channels = self.config.widths[0]
        return layers.conv(self.config.in_channels, channels, 3), channels

    def build_block(self, place: Place, in_channels: int, layers: Layers) -> ResidualBlock:
        """Blocks that stride where a stage begins, but for the first."""
        spec = BlockSpec(
            in_channels=in_channels,
            out_channels=self.config.widths[place.stage],
            stride=2 if place.first and place.stage > 0 else 1,
        )
        return BasicBlock(spec, place.residual, layers)

    def build_head(self, channels: int, layers: Layers) -> tuple[nn.Module, int]:
        """The last activation."""
        return layers.act(channels), channels


register_family(
    BasicNet,
    [BasicConfig(name=f"basic{2 * sum(n) + 2}", depths=n) for n in ((1, 1, 1, 1), (2, 2, 2, 2))],
)


def main() -> None:
    """Train a step, then fold."""
    torch.manual_seed(0)
    print("registered:", *normfree.list_models("basic*"))
    model = normfree.create_model("basic10", num_classes=5)
    optimizer = AGCSGD(param_groups(model, weight_decay=2e-5, clipping=0.01), lr=0.1)
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(5, (16,))

    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("loss:", *(f"{loss:.4f}" for loss in losses))
    if not losses[-1] < losses[0]:
        raise SystemExit("three steps did not lower the loss")

    folded = normfree.fold(model)
    with torch.inference_mode():
        error = (folded(images) - model.eval()(images)).abs().max().item()
    layers = sum(1 for _ in folded.parameters())
    print(f"folded: {layers} tensors, logits within {error:.1e}")
    if error > 1e-5:
        raise SystemExit("the folded network computes something else")


if __name__ == "__main__":
    main()
