"""Inference with trained networks: prediction, evaluation, and export for deployment."""

from normfree.inference.evaluate import METRICS, Answers, Evaluation, Metric, evaluate
from normfree.inference.export import SUFFIXES, export_model, open_exported
from normfree.inference.int8 import quantize_onnx
from normfree.inference.load import load
from normfree.inference.predictor import Prediction, Predictor
from normfree.inference.preprocess import CardInputs, card_transform, source_transform
from normfree.weights.card import ModelCard

__all__ = [
    "METRICS",
    "SUFFIXES",
    "Answers",
    "CardInputs",
    "Evaluation",
    "Metric",
    "ModelCard",
    "Prediction",
    "Predictor",
    "card_transform",
    "evaluate",
    "export_model",
    "load",
    "open_exported",
    "quantize_onnx",
    "source_transform",
]
