"""The networks of the paper, by name."""

from normfree.models.classifier import ImageClassifier
from normfree.models.nfnet import NFNet, NFNetConfig
from normfree.models.registry import build_model, list_models, model_config

__all__ = ["ImageClassifier", "NFNet", "NFNetConfig", "build_model", "list_models", "model_config"]
