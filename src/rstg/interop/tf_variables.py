"""Which TensorFlow variable of the authors' release holds which parameter of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from rstg.graph import RSTG
from rstg.interop.tf_graph import graph_table
from rstg.interop.tf_layouts import LSTM, OPAQUE_LSTM, Table, batch_norm, conv, linear, unpack_cudnn_lstm, vector
from rstg.models.nonlocal_block import NonLocalBlock
from rstg.models.resnet3d import STAGES, Bottleneck, ResNet3D, place_name
from rstg.models.syncmnist import SyncMNISTNet
from rstg.models.video_rstg import VideoRSTG

_SKIPPED = re.compile(
    r"(^|/)(resize_filters[^/]*|positional_emb|global_step|opaque_kernel|beta[12]_power)$"
    r"|/(Momentum|Adam(_1)?|RMSProp(_1)?|ExponentialMovingAverage)$"
)
_HEAD = re.compile(r"(^|/)attention_head(\d+)/")
_GRAPH = "whole_graph_model_"


def is_skipped(name: str) -> bool:
    """Whether this variable of a checkpoint is no weight: slots, counters, resize filters, position maps."""
    return _SKIPPED.search(name) is not None


def table_of(module: nn.Module) -> Table:
    """Return the variables of a graph or network, by their name below the scope they stand in.

    Raises:
        ValueError: if the release has no such module.
    """
    if isinstance(module, RSTG):
        return graph_table(module, "")
    if isinstance(module, SyncMNISTNet) and isinstance(module.graph, RSTG):
        return _syncmnist_table(module)
    if isinstance(module, VideoRSTG):
        return _video_table(module)
    raise ValueError(f"the authors released no weights for a {type(module).__name__}")


def _local_name(name: str, scoped: bool) -> str:
    if not scoped:
        name = re.sub(rf"^.*?{_GRAPH}[^/]*/", "", name)
    return re.sub(r"^(.*/)?resnet_(i3d|c2d)/|^tower/", "", name)


def local_names(variables: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the variables under the names of `table`: without outer scopes, and with cuDNN's blobs unpacked."""
    scoped = any("/" in name and name.split("/")[0] == "backbone" for name in table)
    arrays: dict[str, Any] = {}
    for full, value in variables.items():
        name = full.split(":")[0]
        if is_skipped(name) and not name.endswith(OPAQUE_LSTM):
            continue
        name = _local_name(name, scoped)
        if name in arrays:
            raise ValueError(f"two variables are both {name!r} once their scopes are dropped: load one graph at a time")
        arrays[name] = value
    heads = {int(found[2]) for name in arrays if (found := _HEAD.search(name))}
    if heads and min(heads) == 1:
        arrays = {
            _HEAD.sub(lambda m: f"{m[1]}attention_head{int(m[2]) - 1}/", name): value for name, value in arrays.items()
        }
    for name in [name for name in arrays if name.endswith(OPAQUE_LSTM)]:
        place = name.removesuffix(OPAQUE_LSTM) + LSTM
        blob = arrays.pop(name)
        if f"{place}/kernel" not in arrays and f"{place}/kernel" in table:
            width = table[f"{place}/kernel"].shape[1] // 4
            arrays[f"{place}/kernel"], arrays[f"{place}/bias"] = unpack_cudnn_lstm(np.asarray(blob), width)
    return arrays


def _syncmnist_table(model: SyncMNISTNet) -> Table:
    assert isinstance(model.graph, RSTG)
    table = graph_table(model.graph, "graph.")
    for index, layer in enumerate(model.cnn.layers):
        assert isinstance(layer, nn.Sequential)
        conv(table, f"conv{index}/conv2d", f"cnn.layers.{index}.0", layer[0])
    linear(table, "pred", "classifier", model.classifier, 3)
    return table


def _video_table(model: VideoRSTG) -> Table:
    table = _backbone_table(model.backbone)
    c2d = model.backbone.temporal == "c2d"
    branches = [("backbone/", place, model.branch(place), f"graphs.{place}") for place in model.graphs]
    if model.final is not None:
        branches.append(("", "final", model.final, "final"))
    for scope, place, branch, ours in branches:
        stage = place.split("_")[0]
        if stage != "final" and place != place_name(stage):
            raise ValueError(
                f"the authors released no network with a graph after {place}, only after {place_name(stage)}"
            )
        assert isinstance(branch.graph, RSTG)
        inside = graph_table(branch.graph, f"{ours}.graph.")
        # Their C2D names the norm without the place, so that it can have only one graph in the stages.
        norm = f"{scope}after_graph_ln" if c2d else f"{scope}{stage}_after_graph_ln"
        if f"{norm}/beta" in table:
            raise ValueError(f"the authors' C2D has at most one graph in its stages, not {', '.join(model.graphs)}")
        table |= {f"{scope}{_GRAPH}{stage}/{name}": variable for name, variable in inside.items()}
        width = branch.norm.scale.shape[0]
        vector(table, f"{norm}/beta", f"{ours}.norm.bias", width)
        vector(table, f"{norm}_scale", f"{ours}.norm.scale", width)
    linear(table, "pred", "classifier", model.classifier, 3)
    return table


def _backbone_table(backbone: ResNet3D) -> Table:
    table: Table = {}
    conv(table, "backbone/conv1", "backbone.conv1", backbone.conv1)
    batch_norm(table, "backbone/res_conv1_bn", "backbone.bn1", backbone.bn1)
    for stage in STAGES:
        for index, block in enumerate(backbone.blocks(stage)):
            if not isinstance(block, Bottleneck):
                raise ValueError("the authors released networks of ResNet-50 alone")
            tf, ours = f"backbone/{stage}_{index}_branch", f"backbone.{stage}.{index}"
            for number, letter in ((1, "a"), (2, "b"), (3, "c")):
                conv(table, f"{tf}2{letter}", f"{ours}.conv{number}", block.get_submodule(f"conv{number}"))
                batch_norm(table, f"{tf}2{letter}_bn", f"{ours}.bn{number}", block.get_submodule(f"bn{number}"))
            if block.downsample is not None:
                conv(table, f"{tf}1", f"{ours}.downsample.0", block.downsample[0])
                batch_norm(table, f"{tf}1_bn", f"{ours}.downsample.1", block.downsample[1])
    for place, block in backbone.non_local.items():
        assert isinstance(block, NonLocalBlock)
        tf, ours = f"backbone/nonlocal_conv{place.removeprefix('res')}", f"backbone.non_local.{place}"
        for part in ("theta", "phi", "g", "out"):
            conv(table, f"{tf}_{part}", f"{ours}.{part}", block.get_submodule(part))
        batch_norm(table, f"{tf}_bn", f"{ours}.norm", block.norm)
    return table
