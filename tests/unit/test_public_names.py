"""A snapshot of the public API."""

from __future__ import annotations

from importlib import import_module

import pytest

PUBLIC = {
    "normfree": [
        *("BadImageError", "Predictor", "UserError", "convert", "create_model", "fold"),
        *("list_models", "load"),
    ],
    "normfree.conversion": ["Change", "Converted", "Left", "Report", "convert"],
    "normfree.nn": [
        *("ACTIVATIONS", "Activation", "BatchNormActivation", "BlockSpec", "BottleneckSpec"),
        *("Dropout", "Layers", "NFBlock", "Normalization", "Residual", "ResidualBlock"),
        *("SEPlace", "SESpec", "SameConv2d", "ScaledActivation", "Shortcut"),
        *("SqueezeExcite", "StochasticDepth", "WSConv2d", "calibrate_gains", "estimate_gain"),
    ],
    "normfree.optim": [
        *("AGC", "AGCSGD", "ClipRecord", "EMA", "GlobalNorm", "LARS", "ListOptimizer", "RMSProp"),
        *(
            "Muon",
            "SAM",
            "advised_clipping",
            "agc",
            "clip_grad_agc_",
            "clip_gradients_",
            "group_table",
        ),
        *("param_groups", "sgd_update", "warmup_cosine", "warmup_exponential"),
    ],
    "normfree.models": [
        *("ABLATIONS", "PAPER_NOTES", "PAPER_TOP1", "SUMMARIES", "Summary", "TASK_FIELDS"),
        "ClassifierConfig",
        *("ImageClassifier", "NFNet", "register_family"),
        *("NFNetConfig", "NFRegNet", "NFRegNetConfig", "NFResNet", "NFResNetConfig"),
        *("build_model", "fold", "list_models", "model_config"),
    ],
    "normfree.inference": [
        *("FORMS", "METRICS", "SUFFIXES", "Answers", "Candidate", "CardInputs", "Evaluation"),
        *("Metric", "ModelCard", "Optimized", "export_optimized", "optimize"),
        *("Prediction", "Predictor", "card_transform", "evaluate", "export_model", "load"),
        *("ImageFiles", "find_images", "predict_files"),
        *("open_exported", "quantize_onnx", "source_transform"),
    ],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    home = import_module(module)
    assert sorted(home.__all__) == sorted(PUBLIC[module])
    for name in home.__all__:
        assert getattr(home, name) is not None


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        import_module("normfree").create_modle  # noqa: B018
