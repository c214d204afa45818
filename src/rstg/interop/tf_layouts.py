"""How one TensorFlow variable of the authors' release is laid out, and the tensors of ours that hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LSTM = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
OPAQUE_LSTM = "cudnn_lstm/opaque_kernel"


@dataclass(frozen=True)
class Variable:
    """One TensorFlow variable and the parameters or buffers of ours that hold it.

    Attributes:
        targets: Where it goes: name of ours, and which rows of it (None: all).
        shape: Shape in TensorFlow; a linear kernel may come with more or fewer leading ones.
        read: From the TensorFlow array to our tensors, in the order of `targets`.
        write: The way back. For gradients too: where two of our parameters hold one variable, both have
            its gradient, so that `write` must not add them; it takes the first.
        trainable: Whether it has a gradient.
    """

    targets: tuple[tuple[str, slice | None], ...]
    shape: tuple[int, ...]
    read: Callable[[Tensor], tuple[Tensor, ...]]
    write: Callable[..., Tensor]
    trainable: bool = True

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape is this variable."""
        if shape == self.shape:
            return True
        linear = len(self.shape) >= 2 and set(self.shape[:-2]) <= {1}
        return linear and shape[-2:] == self.shape[-2:] and set(shape[:-2]) <= {1}

    def places(self, state: Mapping[str, Tensor], gradients: bool = False) -> list[Tensor]:
        """Views of the tensors that hold this variable in a module's `state_of`, or of their gradients."""
        places = []
        for name, rows in self.targets:
            tensor = state[name]
            if gradients:
                tensor = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            places.append(tensor if rows is None else tensor[rows])
        return places


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by name, themselves and not copies."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


Table = dict[str, Variable]


def unpack_cudnn_lstm(blob: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Unpack cuDNN's flat LSTM weights into the kernel and bias of TensorFlow's own cell.

    Args:
        blob: W_i W_f W_c W_o [hidden, input], R_i R_f R_c R_o [hidden, hidden], then 8 biases.
        width: Width of inputs and hidden state.

    Raises:
        ValueError: if the blob is not of that width.
    """
    expected = 8 * width * width + 8 * width
    if blob.size != expected:
        raise ValueError(f"opaque_kernel holds {blob.size} numbers; an LSTM of width {width} has {expected}")
    matrices = blob[: 8 * width * width].reshape(2, 4, width, width)
    biases = blob[8 * width * width :].reshape(2, 4, width).sum(0)
    gates = (0, 2, 1, 3)  # cuDNN's i, f, c, o in TensorFlow's order i, c, f, o
    rows = np.concatenate([np.concatenate([part[g] for g in gates]) for part in matrices], axis=1)
    return rows.T, np.concatenate([biases[g] for g in gates])


def vector(table: Table, tf: str, target: str, size: int, rows: slice | None = None, trainable: bool = True) -> None:
    """A vector, held by `target` or by some of its rows."""
    table[tf] = Variable(((target, rows),), (size,), lambda a: (a,), lambda a: a, trainable)


def linear(table: Table, tf: str, ours: str, layer: nn.Module, leading: int, rows: slice | None = None) -> None:
    """A linear layer: kernel (in, out) below `leading` ones, and its bias."""
    assert isinstance(layer, nn.Linear)
    width = layer.out_features if rows is None else rows.stop - rows.start
    shape = (1,) * leading + (layer.in_features, width)
    table[f"{tf}/kernel"] = Variable(
        ((f"{ours}.weight", rows),),
        shape,
        lambda a: (a.reshape(a.shape[-2:]).T,),
        lambda a: a.T.reshape(shape),
    )
    vector(table, f"{tf}/bias", f"{ours}.bias", width, rows)


def conv(table: Table, tf: str, ours: str, layer: nn.Module) -> None:
    """A convolution: kernel (*size, in, out), and its bias if it has one."""
    assert isinstance(layer, (nn.Conv2d, nn.Conv3d))
    shape = (*layer.kernel_size, layer.in_channels, layer.out_channels)
    axes = len(shape)
    table[f"{tf}/kernel"] = Variable(
        ((f"{ours}.weight", None),),
        shape,
        lambda a: (a.reshape(shape).permute(axes - 1, axes - 2, *range(axes - 2)),),
        lambda a: a.permute(*range(2, axes), 1, 0),
    )
    if layer.bias is not None:
        vector(table, f"{tf}/bias", f"{ours}.bias", layer.out_channels)


def batch_norm(table: Table, tf: str, ours: str, norm: nn.Module) -> None:
    """A batch norm: gain, bias and the statistics it keeps."""
    size = norm.get_parameter("weight").shape[0]
    vector(table, f"{tf}/gamma", f"{ours}.weight", size)
    vector(table, f"{tf}/beta", f"{ours}.bias", size)
    vector(table, f"{tf}/moving_mean", f"{ours}.running_mean", size, trainable=False)
    vector(table, f"{tf}/moving_variance", f"{ours}.running_var", size, trainable=False)


def layer_norm(table: Table, tf: str, ours: str, norm: nn.Module) -> None:
    """A layer norm, or nothing where there is none."""
    if not isinstance(norm, nn.Identity):
        size = norm.get_parameter("weight").shape[0]
        vector(table, f"{tf}/gamma", f"{ours}.weight", size)
        vector(table, f"{tf}/beta", f"{ours}.bias", size)


def _swap_gates(rows: Tensor) -> Tensor:
    """Turn TensorFlow's gates i, c, f, o into torch's i, f, c, o, or back."""
    i, second, third, o = rows.chunk(4)
    return torch.cat([i, third, second, o])


def lstm(table: Table, place: str, ours: str, width: int) -> None:
    """An LSTM whose inputs and state are equally wide: one kernel of both, one bias."""

    def read(kernel: Tensor) -> tuple[Tensor, Tensor]:
        rows = _swap_gates(kernel.T)
        return rows[:, :width], rows[:, width:]

    def write(inputs: Tensor, hidden: Tensor) -> Tensor:
        return _swap_gates(torch.cat([inputs, hidden], dim=1)).T

    kernels = ((f"{ours}.rnn.weight_ih_l0", None), (f"{ours}.rnn.weight_hh_l0", None))
    table[f"{place}{LSTM}/kernel"] = Variable(kernels, (2 * width, 4 * width), read, write)
    # Torch's cell has two biases, of which only the sum matters: the variable goes into the first.
    biases = ((f"{ours}.rnn.bias_ih_l0", None), (f"{ours}.rnn.bias_hh_l0", None))
    table[f"{place}{LSTM}/bias"] = Variable(
        biases,
        (4 * width,),
        lambda bias: (_swap_gates(bias), torch.zeros_like(bias)),
        lambda inputs, hidden: _swap_gates(inputs),
    )
