"""Several processes that train or test as one: who this one is, and what they do together.

torchrun starts them, on one machine or on many. Without it there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rstg.graph.features import RunningScale
from rstg.graph.norms import ChannelBatchNorm
from rstg.torchrun import is_first, nodes_and_devices, rank, world_size

T = TypeVar("T")
_LOST = ("gloo", "nccl", "connection closed", "connection reset")


class ProcessLostError(OSError):
    """Another process of the run has ended, or is not to be reached any more."""


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the other processes for what is done inside.

    Args:
        device: "cpu" (gloo), or "cuda" (NCCL, a GPU for each process of a machine).

    Raises:
        ProcessLostError: where another process ends before all are done.
    """
    if world_size() == 1 or distributed.is_initialized():
        yield
        return
    if device == "cuda":
        _, here = nodes_and_devices()
        if here > torch.cuda.device_count():
            raise ValueError(f"{here} processes on a machine with {torch.cuda.device_count()} GPUs: start fewer")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Long beside a step and a validation's unevenness, short beside a night.
    limit = timedelta(minutes=10)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=limit)
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in _LOST):
            raise
        raise ProcessLostError(
            "another process of the run has ended, or is not to be reached any more; with --resume the same command "
            "goes on from the last checkpoint, with any number of processes that divides the batch"
        ) from error
    # Not after an error: NCCL would wait for what the others no longer do.
    distributed.destroy_process_group()


def on_first(work: Callable[[], T]) -> T:
    """Have the first process do something; all get what it gives.

    Raises:
        Exception: in the first process, what its work raises. SystemExit: then in the others, who need not tell it.
    """
    if world_size() == 1:
        return work()
    told: list[Any] = [None, False]
    failed: Exception | None = None
    if is_first():
        try:
            told[0] = work()
        except Exception as error:  # whatever it is, the others must not wait for it
            failed, told[1] = error, True
    distributed.broadcast_object_list(told, 0)
    if failed is not None:
        raise failed
    if told[1]:
        raise SystemExit(2)
    return told[0]


def gathered(value: T) -> list[T]:
    """What each process has, in all of them, by number."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def anyone(asked: bool) -> bool:
    """Whether any of the processes says so."""
    if world_size() == 1:
        return asked
    # On the CPU: a GPU would have to be waited for.
    flag = torch.tensor(int(asked))
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


def share(batch_size: int) -> int:
    """This process's part of a batch.

    Raises:
        ValueError: if a batch cannot be dealt equally.
    """
    if batch_size % world_size():
        raise ValueError(f"batch_size={batch_size} cannot be dealt equally to {world_size()} processes")
    return batch_size // world_size()


def dealt(count: int, size: int) -> list[range]:
    """This process's batches of `count` items that are to be tested, each item in one batch of one process.

    Where there are enough of them the batches are those of a single process, so that each result is the same bit for
    bit. A process has none where there are fewer items than processes.
    """
    size = batch_of(count, size)
    return [range(at, min(at + size, count)) for at in range(0, count, size)][rank() :: world_size()]


def batch_of(count: int, size: int) -> int:
    """How many of `count` items are tested at a time, at most `size`: so few that each process has a batch."""
    return max(1, min(size, count // world_size()))


def check_enough(name: str, count: int) -> None:
    """See that each process has something to validate.

    Raises:
        ValueError: if there are fewer items than processes.
    """
    if count < world_size():
        raise ValueError(f"{name}: {count} are fewer than the {world_size()} processes that share them: start fewer")


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def mean_of_all(x: Tensor) -> Tensor:
    """Mean over the processes of a tensor that each has; gradients go through it."""
    return _Sum.apply(x) / world_size() if world_size() > 1 else x


def _batch_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """A batch norm in training, over the batches of all processes, which are equally large."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    wide = x.float()
    mean = mean_of_all(wide.mean(axes, keepdim=True))
    # Not the mean of squares less the square of the mean: that loses digits.
    variance = mean_of_all((wide - mean).square().mean(axes, keepdim=True))
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        count = world_size() * x.numel() // x.shape[1]
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        with torch.no_grad():
            norm.running_mean.lerp_(mean.flatten(), weight)
            norm.running_var.lerp_(variance.flatten() * count / max(1, count - 1), weight)
    normal = (wide - mean) * (variance + norm.eps).rsqrt()
    if norm.affine:
        shape = [1, -1, *[1] * (x.ndim - 2)]
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal.to(x.dtype)


def _synced(norm: _BatchNorm, alone: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        if not norm.training:
            return alone(x)
        if isinstance(norm, ChannelBatchNorm):
            return _batch_norm(norm, x.reshape(-1, x.shape[-1])).view(x.shape)
        return _batch_norm(norm, x)

    return forward


def sync_statistics(network: nn.Module) -> None:
    """Have a network take its statistics of batches over the batches of all processes, as one process would.

    torch.nn.SyncBatchNorm needs a GPU, and would give frozen batch norms statistics of batches.
    """
    if world_size() == 1:
        return
    for module in network.modules():
        if isinstance(module, RunningScale):
            module.agreed = mean_of_all
        elif isinstance(module, _BatchNorm):
            module.forward = _synced(module, module.forward)  # type: ignore[assignment, method-assign]
