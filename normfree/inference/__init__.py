"""Inference with trained networks: prediction, evaluation, and export for deployment."""

from normfree.inference.evaluate import METRICS, Answers, Evaluation, Metric, evaluate
from normfree.inference.export import SUFFIXES, export_model, open_exported
from normfree.inference.export_optimized import export_optimized
from normfree.inference.forms import FORMS
from normfree.inference.image_files import ImageFiles, find_images, predict_files
from normfree.inference.int8 import quantize_onnx
from normfree.inference.load import load
from normfree.inference.optimize import Candidate, Optimized, optimize
from normfree.inference.predictor import Prediction, Predictor
from normfree.inference.preprocess import CardInputs, card_transform, source_transform
from normfree.weights.card import ModelCard

__all__ = [
    "FORMS",
    "METRICS",
    "SUFFIXES",
    "Answers",
    "Candidate",
    "CardInputs",
    "Evaluation",
    "ImageFiles",
    "Metric",
    "ModelCard",
    "Optimized",
    "Prediction",
    "Predictor",
    "card_transform",
    "evaluate",
    "export_model",
    "export_optimized",
    "find_images",
    "load",
    "open_exported",
    "optimize",
    "predict_files",
    "quantize_onnx",
    "source_transform",
]
