"""Forms in which a network can compute its logits, to choose the fastest from.

To add one, write a function that builds it and add an entry to :data:`FORMS`: selection, export and
benchmarks follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from normfree.errors import unknown_name
from normfree.inference.forms import eager, graphs, prepacked
from normfree.inference.forms.form import (
    Example,
    Form,
    bfloat16,
    calibration,
    cpu,
    first_lack,
    graph,
    network,
    package,
)

__all__ = ["FORMS", "Example", "Form", "named"]

_exporter = first_lack(graph, package("onnx", "onnx", "onnxscript", "onnxruntime"))
_openvino = first_lack(cpu, _exporter, package("openvino", "openvino"))
_packed = first_lack(cpu, network, prepacked.lacks)

_ALL = (
    Form("trained", "the network itself", eager.as_trained),
    Form("folded", "plain layers", eager.folded, network, ".pt2"),
    Form("channels_last", "plain layers, channels last", eager.channels_last, network, ".pt2"),
    Form("prepacked", "oneDNN's layout, fused activations", prepacked.prepacked, _packed),
    Form("compiled", "torch.compile, frozen", eager.compiled, network, default=False),
    Form("onnx", "ONNX Runtime", graphs.onnx, _exporter, ".onnx"),
    Form("openvino", "OpenVINO", graphs.openvino, _openvino, ".onnx"),
    Form("bfloat16", "bfloat16", eager.bfloat16, first_lack(network, bfloat16), ".pt2"),
    Form(
        "prepacked_bfloat16",
        "bfloat16 in oneDNN's layout, fused activations",
        prepacked.prepacked_bfloat16,
        first_lack(_packed, bfloat16),
    ),
    Form(
        "openvino_bfloat16",
        "bfloat16 in OpenVINO",
        graphs.openvino_bfloat16,
        first_lack(_openvino, bfloat16),
        ".onnx",
    ),
    Form(
        "onnx_int8",
        "int8 in ONNX Runtime",
        graphs.onnx_int8,
        first_lack(_exporter, calibration),
        ".onnx",
    ),
    Form(
        "openvino_int8",
        "int8 in OpenVINO",
        graphs.openvino_int8,
        first_lack(_openvino, calibration),
        ".onnx",
    ),
)

#: Every form: name → form.
FORMS: Mapping[str, Form] = MappingProxyType({form.name: form for form in _ALL})


def named(names: Iterable[str] | None = None) -> list[Form]:
    """Forms by name.

    Args:
        names: keys of :data:`FORMS`; None for the default forms. ``compiled`` is not one of them,
            because building it takes half a minute.

    Raises:
        UserError: there is no such form; the message suggests similar ones.

    >>> [form.name for form in named(["onnx", "folded"])]
    ['onnx', 'folded']
    """
    if names is None:
        return [form for form in FORMS.values() if form.default]
    names = list(names)
    for name in names:
        if name not in FORMS:
            raise unknown_name("form", name, FORMS)
    return [FORMS[name] for name in names]
