"""AGC, an average of the weights, and SAM with Hugging Face Accelerate.

    pip install accelerate
    python examples/with_accelerate.py
    accelerate launch examples/with_accelerate.py

AGC clips once gradients are accumulated, averaged over processes and unscaled. With SAM, every
process ascends along the averaged gradient.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import normfree
from normfree.optim import EMA, SAM, clip_grad_agc_, param_groups


def main() -> None:
    """Learn 32 random images by heart."""
    torch.manual_seed(0)
    accelerator = Accelerator()
    network = normfree.create_model("nfnet_pico", num_classes=8)
    groups = param_groups(network, weight_decay=0.01, clipping=0.05)
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    data = TensorDataset(torch.randn(32, 3, 8, 8), torch.arange(32) % 8)
    loader = DataLoader(data, batch_size=16, shuffle=True)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    ema = EMA(accelerator.unwrap_model(network), decay=0.9)
    sam = SAM(network.parameters(), rho=0.05)

    step = 0
    for _ in range(16):
        for images, labels in loader:
            keys = torch.randint(2**32, (len(images),), device=images.device)
            accelerator.backward(cross_entropy(network(images, keys), labels))
            with sam.ascended():
                loss = cross_entropy(network(images, keys), labels)
                accelerator.backward(loss)
            accelerator.unscale_gradients(optimizer)
            clip_grad_agc_(optimizer.param_groups)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(step)
            step += 1

    images, labels = (x.to(accelerator.device) for x in data.tensors)
    accuracy = (ema.model(images).argmax(1) == labels).float().mean()
    accelerator.print(f"loss {loss.item():.2f}, the average knows {accuracy:.0%} of the images")


if __name__ == "__main__":
    main()
