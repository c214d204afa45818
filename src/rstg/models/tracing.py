"""What each module of a network returns, from one run of the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# Followed where no example is given: the input that the networks of torchvision and timm have in common.
_FRAMES, _SIZE = 16, 224


def trace(
    network: nn.Module, modules: Mapping[str, nn.Module], example: Any, frames: int | None
) -> dict[str, list[Any]]:
    """Run the network once, in eval mode and without gradients; return what each module returned.

    Args:
        network: Left as it was.
        modules: Modules of it, by name.
        example: Input, a tensor or a tuple of arguments. None: a clip, or `frames` images, of which only
            the shape is followed through the network, with no values computed.
        frames: Frames of a clip, for networks of single images.

    Returns:
        By name, one output per call, its tensors replaced by ones with a shape and no values.

    Raises:
        ValueError: if the network does not run.
    """
    outputs: dict[str, list[Any]] = {}

    def record(name: str, module: nn.Module, args: Any, output: Any) -> None:
        outputs.setdefault(name, []).append(_shapes(output))

    handles = [module.register_forward_hook(partial(record, name)) for name, module in modules.items()]
    try:
        with torch.no_grad(), _evaluating(network):
            if example is None:
                _run_shapes(network, frames)
            elif isinstance(example, tuple):
                network(*example)
            else:
                network(example)
    # Whatever a foreign network raises says that it cannot take this input.
    except Exception as error:
        if example is None:
            tried = f"16 frames of {_SIZE}x{_SIZE}" if frames is None else f"{frames} images of {_SIZE}x{_SIZE}"
            way = f"{tried}; hand in an input that it takes as example="
        else:
            way = "the example; hand in an input that it takes"
        raise ValueError(f"{type(network).__name__} does not run on {way} ({error})") from error
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _run_shapes(network: nn.Module, frames: int | None) -> None:
    first = next((m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))), None)
    if frames is None and isinstance(first, nn.Conv2d):
        raise ValueError("it is a network of images: say with frames= how many of them make a clip")
    channels = 3 if first is None else first.in_channels
    shape = (1, channels, _FRAMES, _SIZE, _SIZE) if frames is None else (frames, channels, _SIZE, _SIZE)
    weights = {name: value.to("meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    dtype = next((value.dtype for value in weights.values() if value.is_floating_point()), torch.float32)
    with torch.device("meta"):
        torch.func.functional_call(network, weights, (torch.empty(shape, dtype=dtype),))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return torch.empty_like(output, device="meta")
    if type(output) in (tuple, list):
        return type(output)(_shapes(entry) for entry in output)
    return output
