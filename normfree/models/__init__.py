"""The networks of the paper, by name."""

from normfree.models.classifier import ClassifierConfig, ImageClassifier
from normfree.models.fold import fold
from normfree.models.nf_regnet import NFRegNet, NFRegNetConfig
from normfree.models.nf_resnet import NFResNet, NFResNetConfig
from normfree.models.nfnet import NFNet, NFNetConfig
from normfree.models.nfnet_variants import ABLATIONS, PAPER_TOP1
from normfree.models.registry import build_model, list_models, model_config

__all__ = [
    "ABLATIONS",
    "PAPER_TOP1",
    "ClassifierConfig",
    "ImageClassifier",
    "NFNet",
    "NFNetConfig",
    "NFRegNet",
    "NFRegNetConfig",
    "NFResNet",
    "NFResNetConfig",
    "build_model",
    "fold",
    "list_models",
    "model_config",
]
