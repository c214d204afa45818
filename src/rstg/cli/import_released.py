"""rstg import released."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rstg.cli.options import Parser


def run(arguments: Sequence[str]) -> int:
    """Import one of the authors' checkpoints."""
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
    skipped = len(checkpoint.entries) - len(variables)
    print(
        f"{len(variables)} tensors, {skipped} skipped that are no weights; the model is in {options.out}",
        file=sys.stderr,
    )
    return 0


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
