"""A linear layer with what follows it, in one pass where the CPU has a kernel for that."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def _fused(x: Tensor, layer: nn.Linear) -> bool:
    """Whether oneDNN's product with bias and ReLU at its end takes x; PyTorch offers it for inference alone."""
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or layer.weight.dtype != x.dtype:
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad):
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear_relu(x: Float[Tensor, "*rows c"], layer: nn.Linear) -> Float[Tensor, "*rows d"]:
    """Return relu(layer(x)).

    In bfloat16 on a CPU the bias and the ReLU cost as much as the product when they are passes of their own.
    """
    if _fused(x, layer):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "relu", [], "")
        return out
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        # A product with a bias first fills its output with the bias, and then reads it again.
        return torch.relu_((x @ layer.weight.T).add_(layer.bias))
    return torch.relu_(layer(x))
