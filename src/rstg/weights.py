"""Models on disk: weights as safetensors, the network's name and options as JSON beside them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from rstg.models.zoo import create_model, name_of

FORMAT = "rstg-model-1"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(model: nn.Module, folder: str | Path, **facts: Any) -> Path:
    """Save a network of the zoo into a folder; `rstg.load` gives it back.

    Args:
        model: A network of list_models().
        folder: Made if needed. Each file is written beside its place and moved there when complete.
        facts: Plain values to keep in config.json: data, seed, figures.

    Raises:
        ValueError: if the zoo does not hold the network's class.
    """
    from safetensors.torch import save_file

    config = {"format": FORMAT, "model": name_of(model), "options": model.config, "facts": facts}
    text = json.dumps(config, indent=2)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        save_file(state, str(Path(scratch) / WEIGHTS), metadata={"format": "pt"})
        (Path(scratch) / CONFIG).write_text(text + "\n")
        for name in (WEIGHTS, CONFIG):
            (Path(scratch) / name).replace(folder / name)
    return folder


def load(folder: str | Path) -> nn.Module:
    """Load a network that `save` wrote, in eval mode, ready to use. Nothing of the files is executed.

    Raises:
        FileNotFoundError: if the folder or one of its two files is missing.
        ValueError: if a file is of another kind, or the weights are another network's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: a model is a folder with {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{folder / CONFIG} does not describe a model of rstg (format {FORMAT!r})")
    try:
        model = create_model(config["model"], **config["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    try:
        state = load_file(str(folder / WEIGHTS))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is not a complete safetensors file: {error}") from error
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} holds another network's weights: {error}") from error
    return model.eval()
