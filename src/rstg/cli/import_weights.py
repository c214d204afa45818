"""rstg import: weights of others into a folder that rstg.load reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rstg.cli.options import Parser
from rstg.errors import check_choice


def run(arguments: Sequence[str]) -> int:
    """Import weights from one of SOURCES."""
    source, rest = (arguments[0], arguments[1:]) if arguments else ("--help", ())
    if source in ("-h", "--help"):
        listed = "\n".join(f"  rstg import {name:9} {text}" for name, (_, text) in SOURCES.items())
        print(
            f"Weights of others into a folder that rstg.load reads.\n\n{listed}\n\n--help after any of them tells more."
        )
        return 0
    check_choice("source", source, SOURCES)
    return SOURCES[source][0](rest)


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """Read the authors' YAML settings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not YAML, or not names with values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config {path}")
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no settings (name: value) but {found!r}")
    return found


def _released(arguments: Sequence[str]) -> int:
    parser = Parser(prog="rstg import released", description="The authors' TensorFlow checkpoint, with its config.")
    parser.add_argument("--config", type=str, required=True, help="the authors' YAML config of the checkpoint")
    parser.add_argument(
        "--checkpoint", type=str, required=True, help="folder of the checkpoint, or one of several: FOLDER/model_1.ckpt"
    )
    parser.add_argument(
        "--non-local-layout", type=str, default="positions", help="positions, or interleaved (see NonLocalBlock)"
    )
    parser.add_argument("--out", type=str, required=True, help="folder for the model")
    options = parser.parse_args(list(arguments))
    settings = read_settings(options.config)

    from rstg.interop.released import load_variables, model_from_config
    from rstg.interop.tf_checkpoint import Checkpoint
    from rstg.interop.tf_variables import is_skipped
    from rstg.weights import save

    checkpoint = Checkpoint(options.checkpoint)
    model = model_from_config(settings, options.non_local_layout)
    # cuDNN's blobs are skipped as weights of their own, but hold the LSTM where nothing else does.
    variables = checkpoint.read_all(lambda name: is_skipped(name) and not name.endswith("/opaque_kernel"))
    load_variables(model, variables)
    facts: dict[str, Any] = {"imported_from": checkpoint.prefix.name, "config": Path(options.config).name}
    if checkpoint.shapes.get("global_step") == ():
        facts["step"] = int(checkpoint.read("global_step"))
    save(model, options.out, **facts)
    _told(options.out, len(variables), len(checkpoint.entries))
    return 0


def _kinetics(arguments: Sequence[str]) -> int:
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


def _told(out: str, taken: int, held: int) -> None:
    print(f"{taken} tensors read, {held - taken} skipped that are no weights; the model is in {out}", file=sys.stderr)


SOURCES: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "released": (_released, "the authors' TensorFlow checkpoints"),
    "kinetics": (_kinetics, "ResNet-50 of video-nonlocal-net, PySlowFast or torchvision"),
}
