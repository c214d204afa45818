"""The SyncMNIST network: a CNN on every frame, the graph as head, a classifier of the pair of digits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Num
from torch import Tensor, nn

from rstg.errors import check_choice, check_keywords
from rstg.graph import RSTG, GraphAttention, GraphState, HomogeneousGraph
from rstg.models.cnn import FrameCNN

GRAPHS: dict[str, type[RSTG] | type[HomogeneousGraph]] = {"rstg": RSTG, "homogeneous": HomogeneousGraph}


def _options(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in ("self", "in_channels", "channels")]


def cnn_options() -> list[str]:
    """Options of FrameCNN that a network's `cnn` may hold."""
    return _options(FrameCNN)


def clip_maps(cnn: FrameCNN, clip: Num[Tensor, "b c t h w"]) -> Float[Tensor, "b d t y x"]:
    """Run the CNN on every frame of every clip at once; return the feature volume.

    Raises:
        ValueError: for a clip of another shape, or without frames.
    """
    if clip.ndim != 5 or clip.shape[1] != cnn.in_channels:
        raise ValueError(f"expected clips (B, {cnn.in_channels}, T, H, W), got a tensor of shape {tuple(clip.shape)}")
    if clip.shape[2] < 1:
        raise ValueError(f"the clip has no frames: shape {tuple(clip.shape)} is (B, C, T, H, W) with T = 0")
    maps = cnn(clip.transpose(1, 2).flatten(0, 1))
    return maps.unflatten(0, (clip.shape[0], clip.shape[2])).transpose(1, 2)


class SyncMNISTNet(nn.Module):
    """Which two digits of a video move together: FrameCNN, then the graph (RSTG-to-vec), then a linear layer.

    Args:
        num_classes: 45 pairs of digits and "none".
        channels: Output channels of the CNN's layers.
        cnn: Further options of FrameCNN.
        graph: Options of the graph, as in RSTG (or HomogeneousGraph).
        graph_type: "rstg" or "homogeneous".
        in_channels: Channels of a frame.
        dropout: Dropout before the classifier.

    Shapes:
        clip (B, in_channels, T, H, W), pixels 0..255, uint8 or floating point -> logits (B, num_classes).

    Raises:
        ValueError: for an unknown option (with the nearest valid name) or a clip that does not fit.

    Source: paper, section 4.1. The released network is what rstg.interop.released.model_from_config builds.
    """

    def __init__(
        self,
        num_classes: int = 46,
        channels: Sequence[int] = (16, 48, 96),
        cnn: dict[str, Any] | None = None,
        graph: dict[str, Any] | None = None,
        graph_type: str = "rstg",
        in_channels: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        cnn, graph = dict(cnn or {}), dict(graph or {})
        check_choice("graph_type", graph_type, GRAPHS)
        block = GRAPHS[graph_type]
        check_keywords("cnn", cnn, cnn_options())
        check_keywords("graph", graph, _options(block))
        if graph.get("output", "vec") != "vec":
            raise ValueError("graph: the head of SyncMNISTNet needs output='vec'")
        self.config: dict[str, Any] = {
            "num_classes": num_classes,
            "channels": list(channels),
            "cnn": cnn,
            "graph": graph,
            "graph_type": graph_type,
            "in_channels": in_channels,
            "dropout": dropout,
        }
        if "scales" in graph:
            graph = {**graph, "scales": tuple(graph["scales"])}
        self.num_classes = num_classes
        self.cnn = FrameCNN(in_channels, tuple(channels), **cnn)
        self.graph = block(self.cnn.out_channels, **graph)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.graph.out_channels, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier with random weights in place of the old one, to train on other classes."""
        old = self.classifier.weight
        self.classifier = nn.Linear(self.graph.out_channels, num_classes).to(old.device, old.dtype)
        self.num_classes = self.config["num_classes"] = num_classes

    def features(self, clip: Num[Tensor, "b c t h w"]) -> Float[Tensor, "b d t y x"]:
        """Run the CNN on every frame of every clip at once; return the feature volume."""
        return clip_maps(self.cnn, clip)

    def forward(
        self, clip: Num[Tensor, "b c t h w"], return_attention: bool = False
    ) -> Tensor | tuple[Tensor, GraphAttention]:
        """Return logits (B, num_classes), and the graph's attention if asked for."""
        if return_attention:
            vector, attention = self.graph(self.features(clip), return_attention=True)
            return self.classifier(self.dropout(vector)), attention
        return self.classify(self.features(clip))

    def classify(self, volume: Float[Tensor, "b d t y x"]) -> Float[Tensor, "b k"]:
        """Return the logits of a feature volume, as `features` gives it."""
        return self.classifier(self.dropout(self.graph(volume)))

    def initial_state(self, batch: int) -> GraphState:
        """Return the memory before the first frame of `batch` clips."""
        return self.graph.initial_state(batch)

    def step(
        self, frame: Num[Tensor, "b c h w"], state: GraphState, return_attention: bool = False
    ) -> tuple[Tensor, GraphState] | tuple[Tensor, GraphState, GraphAttention]:
        """Take one frame; return the logits (B, num_classes) for the clip so far, and the memory for the next frame.

        With `return_attention` also the graph's attention in this frame.
        """
        vector, *rest = self.graph.step(self.features(frame.unsqueeze(2)).squeeze(2), state, return_attention)
        return self.classifier(self.dropout(vector)), *rest  # type: ignore[return-value]
