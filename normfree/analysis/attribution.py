"""Where a network looks: which parts of an image a logit comes from."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models import ImageClassifier
from normfree.nn.modes import evaluating


@torch.no_grad()
def class_activation_map(
    model: ImageClassifier, images: Float[Tensor, "n c h w"], classes: Int[Tensor, "n k"]
) -> Float[Tensor, "n k _h _w"]:
    r"""The contribution of every place of the last feature map to the logits of some classes.

    .. math:: M_k(i, j) = b_k + \sum_c w_{kc}\, f_c(i, j)
        \qquad\text{so that}\qquad z_k = \frac{1}{HW} \sum_{i,j} M_k(i, j)

    The mean over space and the classifier are both linear, so the map is no approximation: its
    mean is the logit.

    Args:
        model: a classifier; measured in evaluation mode, and its mode is restored.
        images: normalized images.
        classes: indices of the classes, for each image.

    Returns:
        A map for each image and class, at the resolution of the last feature map.

    Raises:
        UserError: the model has no classes.

    Example:
        >>> import normfree
        >>> model = normfree.create_model("nfnet_pico", num_classes=3).eval()
        >>> x = torch.randn(2, 3, 32, 32)
        >>> maps = class_activation_map(model, x, torch.tensor([[0, 1, 2], [2, 1, 0]]))
        >>> maps.shape
        torch.Size([2, 3, 4, 4])
        >>> torch.allclose(maps[0].mean(dim=(1, 2)), model(x)[0], atol=1e-6)
        True

    Source: Zhou et al., Learning Deep Features for Discriminative Localization, 2016, section 2.

    Differs from: the paper, which leaves out the bias.
    """
    if not isinstance(model.classifier, nn.Linear):
        raise UserError("the network has no classes whose logits could be mapped")
    with evaluating(model):
        features = model.forward_features(images)
    weight, bias = model.classifier.weight[classes], model.classifier.bias[classes]
    return torch.einsum("nkc,nchw->nkhw", weight, features) + bias[:, :, None, None]


def input_gradient_map(
    model: nn.Module, images: Float[Tensor, "n c h w"], classes: Int[Tensor, "n k"]
) -> Float[Tensor, "n k h w"]:
    r"""How much each pixel changes the logits of some classes, to first order.

    .. math:: M_k(i, j) = \Bigl|\sum_c x_c(i, j)\, \frac{\partial z_k}{\partial x_c(i, j)}\Bigr|

    It has the resolution of the image, for networks whose last feature map has only a few places.

    Args:
        model: any network from images to logits; measured in evaluation mode, and its mode is
            restored.
        images: normalized images.
        classes: indices of the classes, for each image.

    Returns:
        A map for each image and class, not negative.

    Example:
        >>> weight = torch.arange(8.0).reshape(1, 1, 2, 4)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(8, 1, bias=False))
        >>> _ = model[1].weight.data.copy_(weight.flatten())
        >>> maps = input_gradient_map(model, -torch.ones(1, 1, 2, 4), torch.tensor([[0]]))
        >>> torch.equal(maps, weight)
        True

    Source: Shrikumar et al., Not Just a Black Box, 2016: gradient × input.
    """
    count, several = classes.shape
    with evaluating(model), torch.enable_grad():
        x = images.detach().repeat_interleave(several, dim=0).requires_grad_()
        chosen = model(x).gather(1, classes.reshape(-1, 1))
        (slope,) = torch.autograd.grad(chosen.sum(), x)
    maps = (x.detach() * slope).sum(dim=1).abs()
    return maps.reshape(count, several, *maps.shape[1:])
