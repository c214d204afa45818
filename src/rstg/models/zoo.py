"""The table of networks: name, builder, fixed options, and the paper's row that each reproduces."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from rstg.errors import check_choice, check_keywords
from rstg.models.syncmnist import SyncMNISTNet
from rstg.models.syncmnist_baselines import ConvLSTM, MeanLSTM, SmallI3D
from rstg.models.video_rstg import VideoRSTG

_SYNCMNIST_CLIP = (1, 10, 64, 64)
_SOMETHING_CLIP = (3, 32, 224, 224)
# What trains on a CPU.
_SMALL_CLIP = (3, 16, 112, 112)


@dataclass(frozen=True)
class ModelEntry:
    """A network of the zoo.

    Attributes:
        builder: Class whose keyword arguments are plain values; it keeps them as `config`.
        paper: The row of the paper that it reproduces, with top-1 and top-5 as published.
        clip: Channels, frames, height and width of one clip of that experiment.
        fixed: Keyword arguments that make this network what its name says.
    """

    builder: type[nn.Module]
    paper: str
    clip: tuple[int, int, int, int]
    fixed: dict[str, Any] = field(default_factory=dict)


def _video(
    paper: str, temporal: str, places: list[str], final: str = "none", non_local: tuple[str, ...] = (), depth: int = 50
) -> ModelEntry:
    fixed = {"temporal": temporal, "places": places, "final": final, "non_local": list(non_local), "depth": depth}
    return ModelEntry(VideoRSTG, paper, _SOMETHING_CLIP if depth == 50 else _SMALL_CLIP, fixed)


MODELS: dict[str, ModelEntry] = {
    "syncmnist": ModelEntry(
        SyncMNISTNet, "SyncMNIST: RSTG as the head of a 3-layer CNN, and its ablations, by options", _SYNCMNIST_CLIP
    ),
    "syncmnist_released": ModelEntry(
        SyncMNISTNet,
        "SyncMNIST, RSTG positional, all stages: 97.2 on 5 digits",
        _SYNCMNIST_CLIP,
        {
            "channels": [512, 512, 512],
            "graph": {
                "dim": 512,
                "message_dim": 512,
                "scales": [3, 2, 1],
                "iterations": 3,
                "attention": "additive",
                "heads": 8,
                "neighbours": "soft",
                "update": "shared",
                "update_layers": 2,
                "positions": True,
                "position_size": 6,
                "norm": "none",
                "input_norm": "batch",
                "inner_time_stages": 3,
                "readout": "mean",
            },
        },
    ),
    "syncmnist_mean_lstm": ModelEntry(MeanLSTM, "SyncMNIST, Mean + LSTM: 77.0 on 3 digits", _SYNCMNIST_CLIP),
    "syncmnist_conv_lstm": ModelEntry(ConvLSTM, "SyncMNIST, Conv + LSTM: 95.0 on 3 digits, 39.7 on 5", _SYNCMNIST_CLIP),
    "syncmnist_i3d": ModelEntry(SmallI3D, "SyncMNIST, I3D: 90.6 on 5 digits", _SYNCMNIST_CLIP),
    "syncmnist_non_local": ModelEntry(
        SmallI3D, "SyncMNIST, Non-Local: 93.5 on 5 digits", _SYNCMNIST_CLIP, {"non_local": True}
    ),
    "c2d_r50": _video("Something-Something v1, C2D: 31.7, 64.7", "c2d", []),
    "i3d_r50": _video("Something-Something v1, I3D: 41.6, 72.2", "i3d", []),
    "nl_i3d_r50": _video("Something-Something v1, NL I3D: 44.4, 76.0", "i3d", [], non_local=("res3", "res4")),
    "rstg_c2d_r50": _video("Something-Something v1, RSTG-C2D: 42.8, 73.6", "c2d", [], "add"),
    "rstg_i3d_r50_vec": _video("Something-Something v1, RSTG-to-vec: 47.7, 77.9", "i3d", [], "add"),
    "rstg_i3d_r50_res2": _video("Something-Something v1, RSTG-to-map res2: 46.9, 76.8", "i3d", ["res2_1"]),
    "rstg_i3d_r50_res3": _video("Something-Something v1, RSTG-to-map res3: 47.7, 77.8", "i3d", ["res3_2"]),
    "rstg_i3d_r50_res4": _video("Something-Something v1, RSTG-to-map res4: 48.4, 78.1", "i3d", ["res4_4"]),
    "rstg_i3d_r50_res5": _video("no row: RSTG-to-map res5", "i3d", ["res5_1"]),
    "rstg_i3d_r50_res34": _video("Something-Something v1, RSTG-to-map res3-4: 49.2, 78.8", "i3d", ["res3_2", "res4_4"]),
    "c2d_r18": _video("no row: C2D of ResNet-18", "c2d", [], depth=18),
    "rstg_c2d_r18": _video("no row: RSTG-C2D of ResNet-18", "c2d", [], "add", depth=18),
    "rstg_r50": ModelEntry(VideoRSTG, "no row: any backbone and depth, places and head, by options", _SOMETHING_CLIP),
}


def list_models() -> list[str]:
    """Names that create_model takes."""
    return sorted(MODELS)


def create_model(name: str, *, weights: str | Path | None = None, **config: Any) -> nn.Module:
    """Build a network by name.

    Args:
        name: One of list_models().
        weights: A folder that rstg.save wrote, or a safetensors file of the same network; None starts from
            random weights. A folder's options hold where none are given.
        config: Keyword arguments of the network, such as num_classes, except those that its name fixes.

    Raises:
        ValueError: for an unknown name or keyword (the message gives the nearest valid one), a keyword that
            the name fixes otherwise, or weights that do not fit.
        FileNotFoundError: if there are no such weights.
    """
    check_choice("model", name, MODELS)
    entry = MODELS[name]
    check_keywords(f"model {name!r}", config, inspect.signature(entry.builder).parameters)
    if weights is not None:
        from rstg.weights import read_options

        config = {**read_options(weights, name), **config}
    model = entry.builder(**{**entry.fixed, **config})
    built = _config(model)
    for key, value in entry.fixed.items():
        if built[key] != value:
            raise ValueError(
                f"model {name!r} has {key}={value!r}, not {config[key]!r}; take {_general(entry)!r} for that"
            )
    if weights is not None:
        from rstg.weights import load_weights

        load_weights(model, weights)
    return model


def name_of(model: nn.Module) -> str:
    """Name under which the zoo builds this network: the one that fixes most of its options.

    Raises:
        ValueError: if the zoo does not hold its class.
    """
    fitting = [
        name
        for name, entry in MODELS.items()
        if type(model) is entry.builder and all(_config(model)[key] == value for key, value in entry.fixed.items())
    ]
    if not fitting:
        raise ValueError(f"{type(model).__name__} is not a network of the zoo ({', '.join(MODELS)})")
    return max(fitting, key=lambda name: len(MODELS[name].fixed))


def _config(model: Any) -> dict[str, Any]:
    """A network's options as JSON gives them back: tuples are lists."""
    return json.loads(json.dumps(model.config))


def _general(entry: ModelEntry) -> str:
    return next(name for name, other in MODELS.items() if other.builder is entry.builder and not other.fixed)
