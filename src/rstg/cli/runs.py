"""Configurations of runs of either kind: on SyncMNIST, or on real videos where it says `task: video`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from rstg.cli.options import check_names, load_config, merge, override, parse_config, read_yaml
from rstg.errors import check_choice
from rstg.models import create_model
from rstg.models.zoo import MODELS
from rstg.training.config import TrainConfig
from rstg.training.video_config import VideoConfig

TASKS = ("syncmnist", "video")
_DRAWS = (Tensor.normal_, Tensor.uniform_)


class _NotDrawn(TorchFunctionMode):
    """Leaves weights as memory happens to hold them: whether options fit can be told without drawing any."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


def load_run(paths: str | Path | Sequence[str | Path], overrides: Sequence[str] = ()) -> TrainConfig | VideoConfig:
    """Read a run from YAML files, each merged over those before it, and overrides "a.b=value".

    Which kind of run it is stands in one of the files, or among the overrides, as task: "video", or "syncmnist", which
    is meant where nothing is said and which load_config reads.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what is not YAML, an unknown name (with the nearest), a wrong type or value, options that do
            not fit the network.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    held = [read_yaml(path) for path in files]
    named: dict[str, Any] = {}
    for found in held:
        named = merge(named, found if isinstance(found, dict) else {})
    told = [change.partition("=")[2] for change in overrides if change.startswith("task=")]
    task = told[-1] if told else named.get("task", "syncmnist")
    check_choice("task", task, TASKS)
    if task == "syncmnist":
        return load_config(files, overrides)
    for path, found in zip(files, held, strict=True):
        try:
            check_names(found, VideoConfig)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    override(named, overrides)
    return video_config(named)


def video_config(found: dict[str, Any]) -> VideoConfig:
    """A VideoConfig from plain values; names, types and the network's options are checked."""
    config: VideoConfig = parse_config(found, VideoConfig)
    name, options = config.model.name, config.model.options
    check_choice("model.name", name, [name for name, entry in MODELS.items() if entry.clip[0] == 3])
    try:
        with _NotDrawn():
            create_model(name, **options)
    except TypeError as error:
        raise ValueError(f"model.options do not fit {name!r}: {error}") from error
    return config
