"""The networks of the paper, by name."""

from normfree.models.classifier import ImageClassifier
from normfree.models.config import TASK_FIELDS, ClassifierConfig
from normfree.models.fold import fold
from normfree.models.nf_regnet import NFRegNet, NFRegNetConfig
from normfree.models.nf_resnet import NFResNet, NFResNetConfig
from normfree.models.nfnet import NFNet, NFNetConfig
from normfree.models.nfnet_variants import ABLATIONS, PAPER_NOTES, PAPER_TOP1
from normfree.models.registry import build_model, list_models, model_config, register_family

__all__ = [
    "ABLATIONS",
    "PAPER_NOTES",
    "PAPER_TOP1",
    "TASK_FIELDS",
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
    "register_family",
]
