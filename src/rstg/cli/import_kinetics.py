"""rstg import kinetics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.cli.options import Parser


def run(arguments: Sequence[str]) -> int:
    """Import a ResNet-50 that others have trained."""
    parser = Parser(
        prog="rstg import kinetics",
        description="Weights of a ResNet-50 from video-nonlocal-net, PySlowFast or torchvision (docs/weights.md).",
    )
    parser.add_argument("--model", type=str, required=True, help="network to fill, as in rstg models: i3d_r50")
    parser.add_argument("--weights", type=str, required=True, help="the file")
    parser.add_argument("--out", type=str, required=True, help="folder for the model")
    parser.add_argument("--classes", type=int, default=None, help="number of classes, if not the file's")
    parser.add_argument("--keep", type=str, nargs="*", default=[], help="parts to train anew: classifier, non_local")
    parser.add_argument("--inflate", action="store_true", help="inflate kernels of one frame over time")
    parser.add_argument("--affine", action="store_true", help="norms are a scale and a shift that hold the statistics")
    options = parser.parse_args(list(arguments))

    from rstg.interop.kinetics import load_backbone, read_backbone
    from rstg.models.zoo import create_model
    from rstg.weights import save

    weights = read_backbone(options.weights)
    classes = weights.num_classes if options.classes is None else options.classes
    sized: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    model = create_model(options.model, **sized)
    load_backbone(model, weights, keep=options.keep, inflate=options.inflate, affine=options.affine)
    save(model, options.out, imported_from=Path(options.weights).name, kind=weights.source, trained_anew=options.keep)
    print(f"{len(weights.tensors)} tensors of {weights.source}; the model is in {options.out}", file=sys.stderr)
    return 0
