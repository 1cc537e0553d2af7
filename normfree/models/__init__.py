"""The networks of the paper, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normfree.lazy import lazy

if TYPE_CHECKING:
    from normfree.models.classifier import ImageClassifier
    from normfree.models.config import TASK_FIELDS, ClassifierConfig
    from normfree.models.folding import fold
    from normfree.models.nf_regnet import NFRegNet, NFRegNetConfig
    from normfree.models.nf_resnet import NFResNet, NFResNetConfig
    from normfree.models.nfnet import NFNet, NFNetConfig
    from normfree.models.paper import ABLATIONS, PAPER_NOTES, PAPER_TOP1
    from normfree.models.registry import build_model, list_models, model_config, register_family
    from normfree.models.summary import SUMMARIES, Summary

__all__ = [
    "ABLATIONS",
    "PAPER_NOTES",
    "PAPER_TOP1",
    "SUMMARIES",
    "TASK_FIELDS",
    "ClassifierConfig",
    "ImageClassifier",
    "NFNet",
    "NFNetConfig",
    "NFRegNet",
    "NFRegNetConfig",
    "NFResNet",
    "NFResNetConfig",
    "Summary",
    "build_model",
    "fold",
    "list_models",
    "model_config",
    "register_family",
]

__getattr__ = lazy(
    __name__,
    {
        "classifier": "ImageClassifier",
        "config": "TASK_FIELDS ClassifierConfig",
        "folding": "fold",
        "nf_regnet": "NFRegNet NFRegNetConfig",
        "nf_resnet": "NFResNet NFResNetConfig",
        "nfnet": "NFNet NFNetConfig",
        "paper": "ABLATIONS PAPER_NOTES PAPER_TOP1",
        "registry": "build_model list_models model_config register_family",
        "summary": "SUMMARIES Summary",
    },
)
