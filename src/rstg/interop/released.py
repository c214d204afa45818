"""The authors' TensorFlow 1.13 release: its settings to our modules, its variables to our weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rstg.errors import check_choice, nearest
from rstg.graph import RSTG
from rstg.interop.tf_layouts import Variable, state_of
from rstg.interop.tf_variables import is_skipped, local_names, table_of
from rstg.models.resnet3d import STAGES
from rstg.models.syncmnist import SyncMNISTNet
from rstg.models.video_rstg import VideoRSTG

# The released schedule runs no time stage from a fourth iteration on.
_RELEASED_TIME_STAGES = 3
# Its multi-head attention has eight heads.
_RELEASED_HEADS = 8
_ATTENTION = {"dot": "dot", "simple": "additive"}
_NORM = {"none": "none", "LN": "layer_clip"}
_BACKBONE = {"c2d": "c2d", "i3d": "i3d", "non-local": "i3d"}
_COMBINATION = {"plus": "add", "serial": "alone"}


def _setting(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise ValueError(f"the released config lacks {key!r}{nearest(key, config)}")
    return config[key]


def _number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = _setting(config, key) if default is None else config.get(key, default)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the released config's {key}={value!r} is not a number") from None


def _whole(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = _number(config, key, default)
    if not value.is_integer():
        raise ValueError(f"the released config's {key}={value!r} is not a whole number")
    return int(value)


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, False)
    # A quoted 'False' is a text, and every text but the empty one counts as true.
    if not isinstance(value, bool):
        raise ValueError(f"the released config's {key}={value!r} is neither true nor false: write it without quotes")
    return value


def _graph_options(config: Mapping[str, Any]) -> dict[str, Any]:
    attention, norm = _setting(config, "use_att"), _setting(config, "use_norm")
    check_choice("use_att", attention, _ATTENTION)
    check_choice("use_norm", norm, _NORM)
    multihead = _switch(config, "multihead_att")
    if multihead and attention != "dot":
        raise ValueError(f"multihead_att goes with use_att 'dot', not {attention!r}")
    batch_norm = config.get("dataset") == "mnist"
    return {
        "dim": _whole(config, "node_feat_dim"),
        "message_dim": _whole(config, "message_dims", _whole(config, "node_feat_dim")),
        "scales": tuple(range(_whole(config, "num_scales"), 0, -1)),
        "iterations": _whole(config, "num_process_iter"),
        "attention": "multihead" if multihead else _ATTENTION[attention],
        "heads": _RELEASED_HEADS,
        "neighbours": "soft",
        "update": "per_scale" if _switch(config, "scalewise_update") else "shared",
        "update_layers": _whole(config, "update_layers", 2),
        "positions": _switch(config, "use_positional_emb"),
        "position_size": _whole(config, "dim_map", 6),
        "norm": _NORM[norm],
        "input_norm": "batch" if batch_norm else _NORM[norm],
        "inner_time_stages": _RELEASED_TIME_STAGES,
        "readout": "mean",
    }


def graph_from_config(
    config: Mapping[str, Any],
    channels: int,
    project: tuple[bool, bool] = (False, False),
    output: str = "vec",
) -> RSTG:
    """Build the graph that the authors' settings describe, as their code computes it.

    Args:
        config: The authors' YAML settings (use_att, use_norm, num_scales, num_process_iter, node_feat_dim,
            message_dims, scalewise_update, update_layers, use_positional_emb, multihead_att, dataset, ...).
        channels: Channels of the feature volume.
        project: Whether the nodes are projected from and back to `channels`.
        output: "vec" or "map".

    Raises:
        ValueError: for a missing setting or a value that the release does not have.

    Source: released code; where it differs from the paper see RSTG's arguments.
    """
    return RSTG(channels, output=output, project_in=project[0], project_out=project[1], **_graph_options(config))


def model_from_config(config: Mapping[str, Any], non_local_layout: str = "positions") -> nn.Module:
    """Build the network that the authors' settings describe.

    Args:
        config: The authors' YAML settings. backbone_model is "simple_c2d" (the SyncMNIST network), "c2d", "i3d" or
            "non-local"; place_graph and place_nonlocal name stages, as in "res3-res4" or "none"; a graph at
            "final" is added to the pooled feature or stands alone, by comb_type.
        non_local_layout: As in NonLocalBlock; "interleaved" for checkpoints of the code's first public version.

    Raises:
        ValueError: for a missing setting, or a value or combination that the release does not have.
    """
    backbone = _setting(config, "backbone_model")
    check_choice("backbone_model", backbone, ("simple_c2d", *_BACKBONE))
    classes, dropout = _whole(config, "num_classes"), _number(config, "classification_dropout", 0.0)
    if backbone == "simple_c2d":
        filters = _whole(config, "num_filters")
        return SyncMNISTNet(
            num_classes=classes,
            channels=(filters,) * 3,
            graph=_graph_options(config),
            in_channels=_whole(config, "num_chan", 1),
            dropout=dropout,
        )
    graphs = _places(config, "place_graph", (*STAGES, "final"))
    non_local = _non_local_stages(config, graphs)
    for stage in STAGES:
        if stage in graphs and stage in non_local:
            raise ValueError(
                f"place_graph and place_nonlocal both name {stage}: the release puts one of them in a stage"
            )
    if graphs:
        # Their C2D takes the norm after the graph from use_norm, the others from final_norm.
        key = "use_norm" if backbone == "c2d" else "final_norm"
        check_choice(key, _setting(config, key), ("LN",))
    combination = _setting(config, "comb_type") if "final" in graphs else "plus"
    check_choice("comb_type", combination, _COMBINATION)
    return VideoRSTG(
        num_classes=classes,
        temporal=_BACKBONE[backbone],
        places=[place for place in graphs if place != "final"],
        final=_COMBINATION[combination] if "final" in graphs else "none",
        graph=_graph_options(config) if graphs else None,
        graph_norm="layer_clip",
        non_local=non_local,
        non_local_layout=non_local_layout,
        dropout=dropout,
        in_channels=_whole(config, "num_chan", 3),
    )


def _places(config: Mapping[str, Any], key: str, known: tuple[str, ...]) -> list[str]:
    value = str(config.get(key, "none"))
    places = [] if value.lower() == "none" else value.split("-")
    for place in places:
        check_choice(key, place, known)
    return places


def _non_local_stages(config: Mapping[str, Any], graphs: list[str]) -> list[str]:
    stages = _places(config, "place_nonlocal", STAGES)
    backbone = _setting(config, "backbone_model")
    if backbone == "c2d" and stages:
        raise ValueError("the released C2D has no non-local blocks: set place_nonlocal to none")
    if backbone == "non-local" and not graphs:
        # Their Non-Local network has its blocks in these stages whatever place_nonlocal says.
        stages = [stage for stage in STAGES if stage in (*stages, "res3", "res4")]
    return stages


def load_variables(module: nn.Module, variables: Mapping[str, ArrayLike]) -> None:
    """Fill a module from the authors' TensorFlow variables, every parameter exactly once.

    Args:
        module: From graph_from_config or model_from_config.
        variables: {TensorFlow name: array}. Names may carry any scope before the graph's own
            (`tower/whole_graph_model_final/...`), and a network's any before `resnet_i3d` or `resnet_c2d`.
            Optimizer slots, global_step, resize filters and position maps are skipped: they are not weights.

    Raises:
        ValueError: if a variable is missing, unexpected or of another shape; the message lists them, and
            the module is left as it was.
    """
    table = table_of(module)
    arrays = local_names(variables, table)
    problems = [f"missing: {name} {list(table[name].shape)}" for name in table if name not in arrays]
    loaded: list[tuple[Variable, tuple[Tensor, ...]]] = []
    for name, value in arrays.items():
        if name not in table:
            if not is_skipped(name):
                problems.append(f"unexpected: {name} {list(np.shape(value))}")
            continue
        array = torch.from_numpy(np.array(value, dtype=np.float32))
        if not table[name].fits(tuple(array.shape)):
            problems.append(f"shape of {name}: {list(array.shape)}, expected {list(table[name].shape)}")
            continue
        loaded.append((table[name], table[name].read(array)))
    if problems:
        raise ValueError(
            f"the variables do not fit this {type(module).__name__} (is the config the checkpoint's own?):\n  "
            + "\n  ".join(problems)
        )
    state = state_of(module)
    with torch.no_grad():
        for variable, tensors in loaded:
            for place, tensor in zip(variable.places(state), tensors, strict=True):
                place.copy_(tensor)


def dump_variables(module: nn.Module, gradients: bool = False) -> dict[str, NDArray[np.float32]]:
    """Return a module's weights (or their gradients) under the authors' variable names and in their layout.

    Args:
        module: From graph_from_config or model_from_config.
        gradients: Return the gradient of each trainable variable instead of its value; zeros where backward
            has left none.
    """
    out = {}
    state = state_of(module)
    for name, variable in table_of(module).items():
        if gradients and not variable.trainable:
            continue
        out[name] = variable.write(*variable.places(state, gradients)).detach().cpu().numpy().copy()
    return out
