"""Models on disk: weights as safetensors, the network's name and options as JSON beside them."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rstg.errors import nearest
from rstg.models.zoo import MODELS, create_model, name_of

FORMAT = "rstg-model-1"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# Trained networks that come with the package, a folder each.
_PACKAGED = Path(__file__).parent / "pretrained"


def packaged() -> list[str]:
    """Names of the trained networks that come with the package; `load` takes them."""
    return sorted(folder.name for folder in _PACKAGED.iterdir()) if _PACKAGED.is_dir() else []


def save(model: nn.Module, folder: str | Path, half: bool = False, **facts: Any) -> Path:
    """Save a network of the zoo into a folder; `rstg.load` gives it back.

    Args:
        model: A network of list_models().
        folder: Made if needed. Each file is written beside its place and moved there when complete.
        half: Store weights in half precision (float16); they are loaded as float32. Running statistics, which may
            be too small or too large for it, stay as they are.
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
    if half:
        weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        state = {name: value.half() if name in weights else value for name, value in state.items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        save_file(state, str(Path(scratch) / WEIGHTS), metadata={"format": "pt"})
        (Path(scratch) / CONFIG).write_text(text + "\n")
        for name in (WEIGHTS, CONFIG):
            (Path(scratch) / name).replace(folder / name)
    return folder


def _folder(name: str | Path) -> Path:
    """The folder, or that of the packaged network of this name."""
    folder = Path(name)
    if folder.exists() or folder.name != str(name):
        return folder
    if str(name) not in packaged():
        raise FileNotFoundError(
            f"there is no folder {str(name)!r}, and no network of that name comes with the package "
            f"({', '.join(packaged()) or 'none does'}){nearest(str(name), packaged())}"
        )
    return _PACKAGED / name


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What is known of a saved or packaged network: the facts that it was saved with.

    Raises:
        FileNotFoundError, ValueError: as load.
    """
    return dict(_read_config(_folder(folder)).get("facts", {}))


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: a model is a folder with {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{folder / CONFIG} does not describe a model of rstg (format {FORMAT!r})")
    for name, kind in (("model", str), ("options", dict)):
        if not isinstance(config.get(name), kind):
            raise ValueError(f"{folder / CONFIG}: {name} is {config.get(name)!r}, not a {kind.__name__}")
    return config


def read_options(path: str | Path, name: str) -> dict[str, Any]:
    """Return the options of the network saved at `path`; none are known for a file of weights alone.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if the folder holds another kind of network than `name`.
    """
    path = Path(path)
    if path.is_file():
        return {}
    config = _read_config(path)
    saved = MODELS.get(str(config.get("model")))
    if saved is None or saved.builder is not MODELS[name].builder:
        raise ValueError(f"{path} holds the model {config.get('model')!r}, which is no {name!r}")
    return dict(config.get("options", {}))


def _read_state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}")
    try:
        return load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a network from a safetensors file, or from the folder that holds it; every tensor must fit.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file, or names are missing, left over or of another shape.
    """
    path = Path(path)
    path = path / WEIGHTS if path.is_dir() else path
    _fill(model, _read_state(path), path)


def start_from(model: nn.Module, path: str | Path, classifier: bool = False) -> list[str]:
    """Fill a network that is to be trained from another's weights.

    Every tensor of the backbone is filled, and so are the graphs, non-local blocks and classifier that the other
    network has; those that it does not have stay as they are built.

    Args:
        path: As in load_weights. classifier: Take the classifier, too; else it stays as it is built.

    Returns:
        The parts that stay as they are built: "classifier", "graphs.res3_2".

    Raises:
        FileNotFoundError, ValueError: as load_weights.
    """
    path = Path(path)
    path = path / WEIGHTS if path.is_dir() else path
    state, own = _read_state(path), model.state_dict()
    new = set() if classifier else {"classifier"}
    new |= {part for part in map(_part, own) if part and part not in set(map(_part, state))} - {"classifier"}
    kept = {name: value for name, value in state.items() if _part(name) not in new}
    _fill(model, {**{name: value for name, value in own.items() if _part(name) in new}, **kept}, path)
    return sorted(new)


def _part(name: str) -> str | None:
    """The part of a network that a tensor belongs to, if it is one that another network may lack."""
    found = re.match(r"classifier|final|graphs\.\w+|backbone\.non_local\.\w+", name)
    return found[0] if found else None


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own]
    shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own if name in state}
    problems += [
        f"shape of {name}: {given}, expected {ours}" for name, (given, ours) in shapes.items() if given != ours
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        classes = any(name.startswith("classifier.") for name, (given, ours) in shapes.items() if given != ours)
        hint = "; to train on other classes, load it as it was saved, then call reset_classifier" if classes else ""
        raise ValueError(f"{path} holds another network's weights: {', '.join(problems[:8])}{more}{hint}")
    model.load_state_dict(state, strict=True)


def load(folder: str | Path) -> nn.Module:
    """Load a network that `save` wrote, in eval mode, ready to use. Nothing of the files is executed.

    Args:
        folder: Where it is, or the name of a network that comes with the package (see `packaged`).

    Raises:
        FileNotFoundError: if the folder or one of its two files is missing.
        ValueError: if a file is of another kind, or the weights are another network's.
    """
    folder = _folder(folder)
    config = _read_config(folder)
    try:
        model = create_model(config["model"], **config["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    load_weights(model, folder)
    return model.eval()
