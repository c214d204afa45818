"""ResNet video networks with the graph inside: RSTG-to-map in the stages, RSTG-to-vec on the last map."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rstg.errors import check_choice, check_keywords, check_whole
from rstg.graph import RSTG, GraphAttention, GraphState
from rstg.models.graph_branch import GraphBranch
from rstg.models.resnet3d import DEPTHS, AfterBlock, Feature, ResNet3D, place_name

# The settings of all released Something-Something models, and of the paper's figures.
GRAPH: dict[str, Any] = {
    "dim": 512,
    "scales": [3, 2, 1],
    "iterations": 3,
    "attention": "dot",
    "neighbours": "soft",
    "update": "per_scale",
    "positions": False,
    "norm": "layer_clip",
    "readout": "mean",
}
FINALS: tuple[str, ...] = ("none", "add", "alone")
# Pixels are normalised as in the released code and in the Kinetics weights it starts from.
_MEAN, _STD = 114.75, 57.375
# The last map of a 224 clip is 14x14; of larger clips, every window of that size is pooled, then all averaged.
_WINDOW = 14


class VideoState(NamedTuple):
    """Memory of a C2D network between two frames; its size does not depend on how many frames went by.

    Attributes:
        frames: Number of frames seen (a scalar tensor).
        held: Map of res2 of the frame before, the first of a pair.
        maps: Memory of each graph in the stages, by place.
        final: Memory of the graph on the last map.
        total: Sum of the pooled features of the complete pairs (B, C).
    """

    frames: Tensor
    held: Tensor
    maps: dict[str, GraphState]
    final: GraphState | None
    total: Tensor


class VideoRSTG(nn.Module):
    """C2D, I3D or Non-Local ResNet with any number of graphs, and a classifier.

    RSTG-to-map, after a block:  x <- x + scale * norm(to_map(graph(x)))   (scale starts at 0)
    RSTG-to-vec, on the last map: pooled <- pooled + scale * norm(to_vec(graph(x))), or the vector alone

    Args:
        num_classes: Number of classes.
        temporal: "i3d" or "c2d", as in ResNet3D.
        places: Where to put RSTG-to-map: blocks ("res3_2") or stages ("res3": after the block before its
            last one). Each place has a graph of its own.
        final: RSTG-to-vec on the last map: "none", "add" to the pooled feature, or "alone" in its place.
        graph: Options of RSTG that differ from those of the paper's Something-Something models (GRAPH).
        graph_norm: Over what the graphs' maps are normalised, as in BranchNorm.
        non_local, non_local_layout, in_channels, width, frozen_stats, depth: As in ResNet3D.
        dropout: Dropout before the classifier.

    Shapes:
        clip (B, in_channels, T, H, W), pixels 0..255, uint8 or floating point, T >= 2, H and W >= 32 (with a
        graph in res4, res5 or at the end: >= 37) -> logits (B, num_classes).

    Raises:
        ValueError: for an unknown option (with the nearest valid name) or a clip that does not fit.

    Source: paper, sections 3.4 and 4.2; order of operations and placement read off the released code, whose
    networks are what rstg.interop.released.model_from_config builds.
    """

    def __init__(
        self,
        num_classes: int = 174,
        temporal: str = "i3d",
        places: Sequence[str] = (),
        final: str = "none",
        graph: dict[str, Any] | None = None,
        graph_norm: str = "layer_clip",
        non_local: Sequence[str] = (),
        non_local_layout: str = "positions",
        dropout: float = 0.3,
        in_channels: int = 3,
        width: int = 64,
        frozen_stats: bool = True,
        depth: int = 50,
    ) -> None:
        super().__init__()
        check_choice("final", final, FINALS)
        check_choice("depth", depth, DEPTHS)
        check_whole("num_classes", num_classes)
        for option, value in (("places", places), ("non_local", non_local)):
            if isinstance(value, str):
                raise ValueError(f"{option}={value!r} is one text where a list is expected: {option}=[{value!r}]")
        known = [name for name in inspect.signature(RSTG).parameters if name not in ("channels", "output")]
        check_keywords("graph", graph or {}, known)
        options = {**GRAPH, **(graph or {})}
        options["scales"] = list(options["scales"])
        names = sorted(place_name(place, depth) for place in places)
        if len(set(names)) < len(names):
            raise ValueError(f"places={list(places)} names a block twice: {', '.join(names)}")
        self.config: dict[str, Any] = {
            "num_classes": num_classes,
            "temporal": temporal,
            "places": names,
            "final": final,
            "graph": options,
            "graph_norm": graph_norm,
            "non_local": list(non_local),
            "non_local_layout": non_local_layout,
            "dropout": dropout,
            "in_channels": in_channels,
            "width": width,
            "frozen_stats": frozen_stats,
            "depth": depth,
        }
        self.num_classes = num_classes
        self.backbone = ResNet3D(temporal, non_local, non_local_layout, in_channels, width, frozen_stats, depth)
        options = {**options, "scales": tuple(options["scales"])}
        self.graphs = nn.ModuleDict()
        for name in names:
            channels = self.backbone.feature(name.split("_")[0]).channels
            self.graphs[name] = GraphBranch(RSTG(channels, output="map", **options), graph_norm)
        self.final: GraphBranch | None = None
        if final != "none":
            head = RSTG(self.backbone.out_channels, output="vec", **options)
            # Alone there is nothing to leave unchanged, and a scale of zero would hide the graph from the classifier.
            self.final = GraphBranch(head, graph_norm, initial_scale=float(final == "alone"))
        self.alone = final == "alone"
        self.dropout = nn.Dropout(dropout)
        self.classifier = self._new_classifier(num_classes)

    @property
    def feature_info(self) -> tuple[Feature, ...]:
        """Feature table of the backbone: channels, temporal and spatial stride of each stage."""
        return self.backbone.feature_info

    def _new_classifier(self, num_classes: int) -> nn.Linear:
        classifier = nn.Linear(self.backbone.out_channels, num_classes)
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)
        return classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier with random weights in place of the old one, to train on other classes."""
        check_whole("num_classes", num_classes)
        old = self.classifier.weight
        self.classifier = self._new_classifier(num_classes).to(old.device, old.dtype)
        self.num_classes = self.config["num_classes"] = num_classes

    def normalise(self, clip: Num[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Bring pixels 0..255 to what the backbone takes."""
        return (clip.to(self.classifier.weight.dtype) - _MEAN) / _STD

    def features(self, clip: Num[Tensor, "b c t h w"]) -> dict[str, Tensor]:
        """Return the map of every stage, by name; those of `feature_info`."""
        after, _ = self._branches(False)
        return self.backbone.stages(self.normalise(clip), after)

    def forward(
        self, clip: Num[Tensor, "b c t h w"], return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, GraphAttention]]:
        """Return logits (B, num_classes), and each graph's attention by place ("res3_2", "final") if asked for."""
        after, attention = self._branches(return_attention)
        last = self.backbone(self.normalise(clip), after)
        feature = None if self.alone else pool(last)
        if self.final is not None:
            vector = self.final(last, return_attention=return_attention)
            if return_attention:
                vector, attention["final"] = vector
            feature = vector if feature is None else feature + vector
        logits = self.classifier(self.dropout(feature))
        return (logits, attention) if return_attention else logits

    def branch(self, place: str) -> GraphBranch:
        """Return the graph at a place, as named by `config["places"]`."""
        found = self.graphs[place]
        assert isinstance(found, GraphBranch)
        return found

    def _branches(self, return_attention: bool) -> tuple[dict[str, AfterBlock], dict[str, GraphAttention]]:
        attention: dict[str, GraphAttention] = {}

        def after(place: str) -> AfterBlock:
            def add(x: Tensor) -> Tensor:
                if not return_attention:
                    return x + self.branch(place)(x)
                out, attention[place] = self.branch(place)(x, return_attention=True)
                return x + out

            return add

        return {place: after(place) for place in self.graphs}, attention

    def initial_state(self, batch: int) -> VideoState:
        """Return the memory before the first frame of `batch` clips, to start `step` with.

        Raises:
            ValueError: for I3D and for norms that look at later frames; the message says which would not.
        """
        self._check_causal()
        weight = self.classifier.weight
        return VideoState(
            frames=torch.zeros((), dtype=torch.long, device=weight.device),
            held=weight.new_zeros(batch, self.backbone.feature("res2").channels, 1, 1, 1),
            maps={place: self.branch(place).graph.initial_state(batch) for place in self.graphs},
            final=None if self.final is None else self.final.graph.initial_state(batch),
            total=weight.new_zeros(batch, self.backbone.out_channels),
        )

    def step(self, frame: Num[Tensor, "b c h w"], state: VideoState) -> tuple[Float[Tensor, "b k"], VideoState]:
        """Take one frame; return the logits for the clip so far, and the memory for the next frame.

        The network pools pairs of frames. After the second of a pair the logits are those of the clip up to
        it; after the first, that frame stands for the pair.

        Args:
            frame: Pixels 0..255 of one frame of each clip.
            state: From `initial_state` or the step before.
        """
        self._check_causal()
        second = state.frames % 2 == 1
        maps = dict(state.maps)

        def step_at(place: str) -> AfterBlock:
            def add(x: Tensor) -> Tensor:
                stepped = self.branch(place).graph.step(x.squeeze(2), maps[place])
                maps[place] = stepped[1]
                return x + self.branch(place).norm(stepped[0].unsqueeze(2))

            return add

        after = {place: step_at(place) for place in self.graphs}
        current = self.backbone.early(self.normalise(frame.unsqueeze(2)), after)
        before_pair = {place: memory for place, memory in state.maps.items() if not place.startswith("res2")}
        paired = torch.where(second, torch.maximum(state.held, current), current)
        last = self.backbone.late(paired, after)
        total = state.total + pool(last)
        pairs = torch.div(state.frames, 2, rounding_mode="floor") + 1
        feature = None if self.alone else total / pairs
        final = state.final
        if self.final is not None and state.final is not None:
            stepped = self.final.graph.step(last.squeeze(2), state.final)
            final = stepped[1]
            vector = self.final.norm(stepped[0])
            feature = vector if feature is None else feature + vector

        # The first frame of a pair leaves no trace behind res2: what it changed there is taken back.
        def if_second(new: Any, old: Any) -> Any:
            return tree_map(lambda a, b: torch.where(second, a, b), new, old)

        maps |= {place: if_second(maps[place], memory) for place, memory in before_pair.items()}
        after_step = VideoState(
            frames=state.frames + 1,
            held=current,
            maps=maps,
            final=None if final is None else if_second(final, state.final),
            total=if_second(total, state.total),
        )
        return self.classifier(self.dropout(feature)), after_step

    def _check_causal(self) -> None:
        if self.backbone.temporal != "c2d" or self.config["non_local"]:
            raise ValueError(
                "I3D and non-local networks look at later frames and cannot run frame by frame: use temporal='c2d'"
            )
        if len(self.graphs) and self.config["graph_norm"] == "layer_clip":
            raise ValueError(
                "graph_norm='layer_clip' normalises a map over the whole clip, later frames included: build the "
                "network with graph_norm='layer' or 'layer_frame'"
            )
        if self.training and not self.config["frozen_stats"]:
            raise ValueError("batch norm in training mode normalises over the whole clip: call eval() before step")


def pool(last: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c"]:
    """Average the last map over time and over all windows of 14x14 (or the whole map, if it is smaller).

    Source: released code, which classifies every window and averages the logits; the classifier is linear.
    """
    height, width = last.shape[3:]
    if max(height, width) <= _WINDOW:
        return last.mean((2, 3, 4))
    rows, columns = _share_of_windows(height, last), _share_of_windows(width, last)
    return torch.einsum("bchw,h,w->bc", last.mean(2), rows, columns)


def _share_of_windows(size: int, like: Tensor) -> Tensor:
    """How much each place of an axis weighs in the mean over all windows: edges lie in fewer of them."""
    window = min(size, _WINDOW)
    windows = size - window + 1
    place = torch.arange(size, device=like.device)
    holding = torch.minimum(place + 1, size - place).clamp(max=min(windows, window))
    return holding.to(like.dtype) / (windows * window)
