from __future__ import annotations

import pytest
import torch

from normfree.analysis import class_activation_map, input_gradient_map
from normfree.errors import UserError
from normfree.models import build_model


@pytest.mark.parametrize("name", ["nfnet_pico", "nfnet_micro"])
def test_a_class_activation_map_is_exact(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes=5).double()
    for parameter in model.parameters():  # SkipInit gains and biases start at zero
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    classes = torch.tensor([[4, 0, 2], [1, 1, 3]])
    maps = class_activation_map(model, x, classes)
    with torch.no_grad():
        logits = model(x)
    assert maps.shape[:2] == classes.shape
    assert maps.shape[2] < maps.shape[3]  # the image is wide
    assert maps.std(dim=(2, 3)).min() > 0
    torch.testing.assert_close(maps.mean(dim=(2, 3)), logits.gather(1, classes))


def test_a_class_activation_map_needs_classes():
    with pytest.raises(UserError, match="no classes"):
        class_activation_map(
            build_model("nfnet_pico", num_classes=0), torch.zeros(1, 3, 8, 8), torch.tensor([[0]])
        )


def test_a_gradient_map_equals_finite_differences():
    torch.manual_seed(0)
    model = build_model("nfnet_pico", num_classes=3, activation="silu").double().train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    (maps,) = input_gradient_map(model, x, torch.tensor([[2, 0]]))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    step = 1e-6
    model.eval()
    with torch.no_grad():
        for row, column in ((0, 0), (3, 5), (7, 7)):
            change = torch.zeros_like(x)
            change[:, :, row, column] = step * x[:, :, row, column]
            slope = (model(x + change) - model(x - change))[0] / (2 * step)
            torch.testing.assert_close(
                maps[:, row, column], slope[[2, 0]].abs(), rtol=1e-5, atol=1e-7
            )
