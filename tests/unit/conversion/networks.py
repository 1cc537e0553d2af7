"""Small batch-normalized networks in the styles that people write."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


def conv(i, o, size=3, stride=1, groups=1):
    return nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False)


def projection(i, o, stride):
    """The skip path of torchvision's and timm's ResNets."""
    return nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o)) if stride > 1 or i != o else None


class BasicBlock(nn.Module):
    """As in torchvision: one ReLU layer is called twice."""

    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, 3, stride), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.downsample = projection(i, o, stride)

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """As in torchvision."""

    def __init__(self, i, o, stride=1, groups=1):
        super().__init__()
        width = o // 4
        self.conv1, self.bn1 = conv(i, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, o, 1), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(i, o, stride)
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class SEModule(nn.Module):
    """As in timm."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        return x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))


class DropPath(nn.Module):
    """As in timm: its forward pass depends on the mode."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate) / (1 - self.rate)


class AttentiveBottleneck(nn.Module):
    """As in timm: layers for what is left out, mean pooling on the skip path, grouped filters."""

    def __init__(self, i, o, stride=1, drop=0.0):
        super().__init__()
        width = o // 2
        self.conv1, self.bn1, self.act1 = conv(i, width, 1), nn.BatchNorm2d(width), nn.SiLU()
        self.conv2 = conv(width, width, 3, stride, groups=width // 16)
        self.bn2, self.drop_block, self.act2 = nn.BatchNorm2d(width), nn.Identity(), nn.SiLU()
        self.conv3, self.bn3 = conv(width, o, 1), nn.BatchNorm2d(o)
        self.se, self.drop_path, self.act3 = SEModule(o), DropPath(drop), nn.SiLU()
        self.downsample = None
        if stride > 1 or i != o:
            pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
            pool = nn.Identity() if stride == 1 else pool
            self.downsample = nn.Sequential(pool, conv(i, o, 1), nn.BatchNorm2d(o))

    def forward(self, x):
        shortcut = x
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.drop_block(self.bn2(self.conv2(x))))
        x = self.drop_path(self.se(self.bn3(self.conv3(x))))
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        x = x + shortcut
        return self.act3(x)


class FunctionalBlock(nn.Module):
    """As in many repositories of small networks: functions, and an empty sequence."""

    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, 3, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.shortcut = projection(i, o, stride) or nn.Sequential()

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.dropout(out, 0.1, self.training)
        out = self.bn2(self.conv2(out))
        out = out + self.shortcut(x)
        return F.relu(out)


class PreActivationBlock(nn.Module):
    """He et al. (2016b): the projection reads the activated input."""

    def __init__(self, i, o, stride=1):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, o, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), conv(o, o)
        self.shortcut = conv(i, o, 1, stride) if stride > 1 or i != o else None

    def forward(self, x):
        a = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(F.relu(self.bn2(self.conv1(a)))) + skip


class InvertedResidual(nn.Module):
    """MobileNetV2: depthwise filters, no activation of the sum, a sum only where shapes agree."""

    def __init__(self, i, o, stride=1):
        super().__init__()
        width = 4 * i
        self.layers = nn.Sequential(
            *(conv(i, width, 1), nn.BatchNorm2d(width), nn.ReLU6()),
            *(conv(width, width, 3, stride, groups=width), nn.BatchNorm2d(width), nn.ReLU6()),
            *(conv(width, o, 1), nn.BatchNorm2d(o)),
        )
        self.residual = stride == 1 and i == o

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class ResNet(nn.Module):
    """As in torchvision, with a pool in the stem or without."""

    def __init__(self, block, widths=(32, 64), depths=(2, 2), classes=10, pool=False, stem=None):
        super().__init__()
        stem = stem or widths[0]
        self.conv1 = nn.Conv2d(3, stem, 7 if pool else 3, 2, 3 if pool else 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(stem), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        stages, i = [], stem
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            strides = [1 + (number > 0)] + [1] * (depth - 1)
            stages.append(
                nn.Sequential(*(block((i, width)[k > 0], width, s) for k, s in enumerate(strides)))
            )
            i = width
        self.layers = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(i, classes)

    def forward_features(self, x):
        return self.layers(self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.forward_features(x)), 1))


class FunctionalResNet(ResNet):
    """A forward pass that calls functions, and views the features as a matrix."""

    def forward(self, x):
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        out = F.adaptive_avg_pool2d(out, 1)
        return self.fc(out.view(out.size(0), -1))


class PreActivationResNet(nn.Module):
    """No normalization after the stem; one before the classifier."""

    def __init__(self, block=PreActivationBlock, widths=(32, 64), depths=(2, 2), classes=10):
        super().__init__()
        self.stem = conv(3, widths[0], 3, 2)
        blocks, i = [], widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for k in range(depth):
                blocks.append(block(i, width, 2 if number and k == 0 else 1))
                i = width
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.relu, self.fc = nn.BatchNorm2d(i), nn.ReLU(), nn.Linear(i, classes)

    def forward(self, x):
        return self.fc(self.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


class MobileNet(nn.Module):
    """A stem, blocks with and without a skip path, and a head."""

    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            *(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU6()),
            *(InvertedResidual(16, 24), InvertedResidual(24, 24), InvertedResidual(24, 24)),
            *(InvertedResidual(24, 32, 2), InvertedResidual(32, 32)),
            *(conv(32, 64, 1), nn.BatchNorm2d(64), nn.ReLU6()),
        )
        self.classifier = nn.Linear(64, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def plain(classes=10):
    """Convolutions, batch normalization and activations in a row, as in VGG."""
    layers, i = [], 3
    for width in (32, 32, 64):
        layers += [conv(i, width, 3, 2), nn.BatchNorm2d(width), nn.GELU()]
        i = width
    body = nn.Sequential(*layers)
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, classes))


#: Name → a network of that style, for images (n, 3, h, w) and 10 classes.
STYLES = {
    "resnet18": lambda: ResNet(BasicBlock, (16, 32, 32, 64), (2, 2, 2, 2)),
    "resnet50": lambda: ResNet(Bottleneck, (64, 128, 128, 256), (2, 2, 2, 2), stem=16),
    "timm": lambda: ResNet(AttentiveBottleneck, (64, 64), stem=32),
    "functional": lambda: FunctionalResNet(FunctionalBlock),
    "pre-activation": PreActivationResNet,
    "mobilenet": MobileNet,
    "plain": plain,
}
