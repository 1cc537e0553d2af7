"""Sharpness-aware minimization: off, and the three forms of appendix A.4.

python -m experiments.data && python -m experiments.sam
"""

from __future__ import annotations

from experiments.augmentation import FASHION
from experiments.study import Study, main

ROWS = {
    "no SAM": {},
    "SAM, whole batch ascends": {"sam_rho": 0.05},
    "SAM, 20 % of the batch ascends": {"sam_rho": 0.05, "sam_fraction": 0.2},
    "SAM, four micro-batches ascend on their own": {
        "sam_rho": 0.05,
        "sam_scope": "micro_batch",
        "accumulate": 4,
    },
}

STUDIES = [
    Study(name="sam_fashion", page="sam", base=FASHION.override(epochs=15), variants=ROWS),
]

if __name__ == "__main__":
    main(STUDIES, __doc__)
