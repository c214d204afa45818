"""What a network costs: parameters and multiplications of one clip."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Count the numbers that a checkpoint of the model holds, as the authors do.

    Weights and batch norm statistics; an LSTM's two biases, of which only the sum matters, count once.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            total -= sum(value.numel() for name, value in module.named_parameters() if name.startswith("bias_hh"))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            assert module.running_mean is not None and module.running_var is not None
            total += module.running_mean.numel() + module.running_var.numel()
    return total


def count_macs(model: nn.Module, clip: Sequence[int]) -> int:
    """Count the multiply-accumulates of one clip: convolutions, matrix products, recurrent cells, attention.

    Pooling, norms and element-wise operations are left out, as is usual. The model runs on shapes alone, where
    a recurrent cell is the matrix products that it consists of (on a CPU or GPU it is one fused kernel, which
    counters take for nothing), so that any size of clip is counted at once and nothing is computed.

    Args:
        model: Network or block; it is left as it is.
        clip: Shape of its input without the batch, such as (3, 32, 224, 224).
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        shapes(torch.empty(1, *clip, device="meta"))
    return counter.get_total_flops() // 2
