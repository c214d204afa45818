"""rstg export."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse.typing import PositiveInt

from rstg.cli.options import Parser


def run(arguments: Sequence[str]) -> int:
    """Write a model as a file for another runtime."""
    parser = Parser(
        prog="rstg export",
        description="Write a model as an ONNX or torch.export file, and check the file's outputs against the model's. "
        "Any number of clips at a time; frames, height and width are fixed.",
    )
    parser.add_argument("model", type=str, help="folder of a model: RUN/model, or what rstg import wrote")
    parser.add_argument("--out", type=str, required=True, help="the file")
    parser.add_argument("--format", type=str, default="onnx", help="onnx, or torch for a file of torch.export.load")
    parser.add_argument("--step", action="store_true", help="the step: one frame and the memory in, both out")
    parser.add_argument("--frames", type=PositiveInt, default=None, help="frames of a clip, if not the experiment's")
    parser.add_argument(
        "--size", type=PositiveInt, nargs="+", default=None, help="height and width, or one number for both"
    )
    options = parser.parse_args(list(arguments))

    from rstg.interop.export import export
    from rstg.models.zoo import MODELS, name_of
    from rstg.weights import load

    model = load(options.model)
    _, frames, *size = MODELS[name_of(model)].clip
    if options.size is not None:
        if len(options.size) > 2:
            raise ValueError(f"--size takes height and width, not {len(options.size)} numbers")
        size = [options.size[0], options.size[-1]]
    written = export(
        model,
        options.out,
        frames=options.frames or frames,
        size=(size[0], size[1]),
        format=options.format,
        step=options.step,
    )
    for kind, listed in (("inputs", written.inputs), ("outputs", written.outputs)):
        print(f"{kind}: " + ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in listed.items()))
    print(f"{written.path}: outputs differ from the model's by {written.difference:.1e} at most", file=sys.stderr)
    return 0
