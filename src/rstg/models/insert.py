"""Put the graph block into a network that knows nothing of it: insert, list what is inserted, remove."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rstg.errors import check_choice, check_keywords, nearest
from rstg.graph import RSTG
from rstg.graph.base import GraphBlock
from rstg.models.layouts import AXES, Layout, describe, find_layout
from rstg.models.tracing import trace

# Name under which a network keeps its inserted blocks.
CONTAINER = "rstg_blocks"


class InsertedBlock(nn.Module):
    """Graph added to what a module of a network returns: y = x + norm(graph(x)), with a gain of zero at first.

    The norm is a layer norm over the channels of each place, whose gain and bias start at zero: the output
    is at first what it was without the block. The first step of an optimiser moves the gain and the bias;
    from then on every parameter of the graph gets a gradient.

    Args:
        place: Name of the module.
        graph: Block with output="map".
        layout: Where the module's output has its channels, frames and places.

    Source: paper, section 4.2; the released code normalises over the whole clip, which looks into the future.
    """

    handle: RemovableHandle

    def __init__(self, place: str, graph: GraphBlock, layout: Layout) -> None:
        super().__init__()
        self.place = place
        self.layout = layout
        self.graph = graph
        self.norm = nn.LayerNorm(graph.out_channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, output: Any) -> Any:
        """Return the module's output, in its own form, with the graph's contribution added."""
        change = self.graph(self.layout.to_volume(output))
        return self.layout.add(output, self.norm(change.movedim(1, -1)))

    def extra_repr(self) -> str:
        return f"place={self.place!r}, layout={self.layout}"


class InsertedBlocks(nn.Module):
    """Where a network keeps its inserted blocks, apart from its own modules, whose names stay as they were.

    A state that knows of no block loads strictly and leaves the blocks as they are; one that holds blocks
    must hold all of them. Called, it returns its input: an nn.Sequential calls every module it has.
    """

    def forward(self, x: Any) -> Any:
        return x

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if not any(name.startswith(prefix) for name in state_dict):
            state_dict.update(self.state_dict(prefix=prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _AfterModule:
    """Forward hook that hands a module's output through a block; a class, so that it copies and pickles."""

    def __init__(self, block: InsertedBlock) -> None:
        self.block = block

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self.block(output)


def insert(
    network: nn.Module,
    blocks: Mapping[str, Any],
    *,
    example: Tensor | tuple[Any, ...] | None = None,
    frames: int | None = None,
    layout: str | Layout = "auto",
    grid: tuple[int, ...] | None = None,
) -> nn.Module:
    """Put graph blocks into a network, each after a module of it, without changing what it computes yet.

    The network runs once, without gradients and in eval mode, to see what each place returns. The blocks'
    weights are kept in `network.rstg_blocks`; the network's own names do not change, so that its
    pretrained weights load strictly before or after. Insert first, then compile, wrap for several GPUs, or
    hand the parameters to an optimiser.

    Args:
        network: Any torch network; it is changed in place.
        blocks: Per place (a name of `network.named_modules()`, e.g. "layer3" or "layer3.1") a block with
            output="map", or the options of RSTG as a dict, or functools.partial(RSTG or HomogeneousGraph,
            ...) or the class itself, from which a block for the place's channels is built.
        example: Input of the network, a tensor or a tuple of arguments. Without it, the shapes of a clip
            of 16 frames of 224x224, or of `frames` images of 224x224, are followed through the network,
            which costs next to nothing.
        frames: For a network of single images: its batch holds clips of this many frames, clip after clip.
        layout: "channels_first", "channels_last", "tokens", "auto" or a rstg.models.layouts.Layout.
        grid: Tokens only: their (T, H, W), or (H, W) with `frames`, where the output does not tell it.

    Returns:
        The network.

    Raises:
        ValueError: for a place that is not there, holds a block already or gives no feature volume, or a
            block or network that does not fit; the network is then as it was.

    Source: paper, section 4.2, puts the block into a ResNet; places, layouts and the rest are this package's.
    """
    if not isinstance(layout, Layout):
        check_choice("layout", layout, ("auto", *AXES))
    if frames is not None and frames < 1:
        raise ValueError(f"frames={frames}: a clip has at least one")
    _check_network(network)
    modules = {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if name and name.split(".")[0] != CONTAINER
    }
    _check_places(network, blocks, modules)
    outputs = trace(network, modules, example, frames)

    def look(name: str) -> tuple[Layout, Tensor]:
        parts = name.split(".")
        path = [network, *(modules[".".join(parts[: depth + 1])] for depth in range(len(parts)))]
        return _look(path, outputs.get(name, []), layout, frames, grid)

    new: list[InsertedBlock] = []
    for place, value in blocks.items():
        try:
            found, volume = look(place)
        except ValueError as error:
            raise ValueError(f"{place!r} gives {error}{_volumes(look, modules)}") from error
        try:
            graph = _build(value, volume.shape[1])
            _check_size(graph, volume)
        except ValueError as error:
            raise ValueError(f"{place!r}: {error}") from error
        if graph in network.modules() or graph in [block.graph for block in new]:
            raise ValueError(f"{place!r}: this block has a place already; each place needs a block of its own")
        new.append(InsertedBlock(place, graph, found))

    if not hasattr(network, CONTAINER):
        network.add_module(CONTAINER, InsertedBlocks())
    container = getattr(network, CONTAINER).train(network.training)
    for block in new:
        module = modules[block.place]
        weight = next((p for p in (*module.parameters(), *network.parameters()) if p.is_floating_point()), None)
        container.add_module(_key(block.place), block if weight is None else block.to(weight.device, weight.dtype))
        block.train(network.training)
        block.handle = module.register_forward_hook(_AfterModule(block))
    return network


def inserted(network: nn.Module) -> dict[str, InsertedBlock]:
    """Return the blocks that `insert` put into a network, by place."""
    container = getattr(network, CONTAINER, None)
    blocks = container.children() if isinstance(container, InsertedBlocks) else ()
    return {block.place: block for block in blocks if isinstance(block, InsertedBlock)}


def remove(network: nn.Module, *places: str) -> nn.Module:
    """Take inserted blocks out of a network again: those of `places`, or all.

    Raises:
        ValueError: for a place that holds no block.
    """
    blocks = inserted(network)
    for place in places:
        if place not in blocks:
            raise ValueError(f"no block is inserted at {place!r}{nearest(place, blocks)}")
    for place in places or list(blocks):
        blocks[place].handle.remove()
        delattr(getattr(network, CONTAINER), _key(place))
    if blocks and not inserted(network):
        delattr(network, CONTAINER)
    return network


def _key(place: str) -> str:
    return place.replace(".", "__")


def _check_network(network: nn.Module) -> None:
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise ValueError(f"insert into the network itself, before {type(network).__name__} wraps it")
    for name, module in network.named_modules():
        # What is compiled already may go on running without the block.
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise ValueError(f"{name or 'the network'} is compiled already: insert first, then compile")
    own = getattr(network, CONTAINER, None)
    if own is not None and not isinstance(own, InsertedBlocks):
        raise ValueError(f"the network has a {CONTAINER!r} of its own, the name that inserted blocks are kept under")


def _check_places(network: nn.Module, blocks: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> None:
    if not blocks:
        raise ValueError("no place is given: name a module of the network, as in {'layer3': {'dim': 64}}")
    taken = {id(modules[place]): place for place in inserted(network)}
    keys = {_key(place) for place in taken.values()}
    for place in blocks:
        if place not in modules:
            raise ValueError(
                f"{type(network).__name__} has no module {place!r}{nearest(place, modules, 3) or '.'} "
                "Its own children: "
                f"{', '.join(repr(name) for name, _ in network.named_children() if name != CONTAINER)}"
            )
        if id(modules[place]) in taken:
            raise ValueError(f"a block is inserted at {taken[id(modules[place])]!r} already; remove it first")
        if _key(place) in keys:
            raise ValueError(f"{place!r} would share the name {_key(place)!r} with another place's block")
        taken[id(modules[place])] = place
        keys.add(_key(place))


def _look(
    path: Sequence[nn.Module],
    outputs: Sequence[Any],
    axes: str | Layout,
    frames: int | None,
    grid: tuple[int, ...] | None,
) -> tuple[Layout, Tensor]:
    """Return the layout of what the last module of `path` returned, and its shape as a feature volume."""
    if not outputs:
        raise ValueError(f"nothing: the network never calls this {type(path[-1]).__name__}; name one that it calls")
    layouts = [find_layout(path, output, axes, frames, grid) for output in outputs]
    volumes = [layout.to_volume(output) for layout, output in zip(layouts, outputs, strict=True)]
    if any(volume.shape[1] != volumes[0].shape[1] for volume in volumes) or any(x != layouts[0] for x in layouts):
        listed = " and ".join(describe(output) for output in outputs[:3])
        raise ValueError(f"{listed}: it is called {len(outputs)} times, and one block cannot take them all")
    return layouts[0], volumes[0]


def _volumes(look: Callable[[str], tuple[Layout, Tensor]], modules: Mapping[str, nn.Module]) -> str:
    """Name the modules that give feature volumes, each outermost of its kind, as a hint."""
    found: list[str] = []
    for name in sorted(modules, key=lambda name: name.count(".")):
        # Deeper names are the insides of blocks, whose four axes may be heads and tokens.
        if name.count(".") <= 2 and not any(name.startswith(f"{outer}.") for outer in found):
            with suppress(ValueError):
                if min(look(name)[1].shape[-2:]) > 1:
                    found.append(name)
    names = [repr(name) for name in modules if name in found]
    listed = names if len(names) <= 8 else [*names[:4], "...", *names[-3:]]
    return f". Feature volumes come from {', '.join(listed)}" if names else ""


def _build(value: Any, channels: int) -> GraphBlock:
    """Return the block, or build it for that many channels from its options."""
    if isinstance(value, GraphBlock):
        graph = value
        if graph.output != "map":
            raise ValueError(
                f"the block gives a vector: build it with output='map', e.g. RSTG({channels}, output='map')"
            )
    else:
        cls: Any = RSTG
        options: Any = value
        if isinstance(value, partial):
            cls, options = value.func, value.keywords
        elif isinstance(value, type):
            cls, options = value, {}
        known = isinstance(cls, type) and issubclass(cls, GraphBlock)
        if not known or not isinstance(options, Mapping):
            raise ValueError(f"expected a graph block, a dict of its options or a partial of its class, not {value!r}")
        valid = [name for name in inspect.signature(cls).parameters if name not in ("channels", "output")]
        given = {name: option for name, option in options.items() if name != "output"}
        check_keywords(cls.__name__, given, valid)
        check_choice("output", options.get("output", "map"), ("map",))
        graph = cls(channels, output="map", **given)
    if graph.channels != channels:
        raise ValueError(f"the block is for {graph.channels} channels, and the place has {channels}")
    if graph.out_channels != channels:
        raise ValueError(f"the block gives {graph.out_channels} of {channels} channels: leave project_out out")
    return graph


def _check_size(graph: GraphBlock, volume: Tensor) -> None:
    height, width = volume.shape[-2:]
    if min(height, width) < max(graph.scales):
        raise ValueError(
            f"a map of {height}x{width} is smaller than the grid of scale {max(graph.scales)}: choose an earlier "
            f"place, or smaller scales"
        )
