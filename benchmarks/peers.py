"""Benchmarks beside timm, without torchvision: ``python benchmarks/peers.py train --peers …``.

The rest of the line is that of ``normfree bench``. timm itself is needed:
``pip install --no-deps timm huggingface_hub``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.timm_standin import install

install()  # here, because the processes that measure memory import this file, too

if __name__ == "__main__":
    from normfree.cli import main

    main(["bench", *sys.argv[1:]])
