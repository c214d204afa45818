"""Which TensorFlow variable of the authors' release holds which parameter of ours, and in what layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rstg.graph import RSTG
from rstg.graph.space import Gather
from rstg.models.syncmnist import SyncMNISTNet

_LSTM = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
_OPAQUE = "cudnn_lstm/opaque_kernel"
_SKIPPED = re.compile(
    r"(^|/)(resize_filters[^/]*|positional_emb|global_step|opaque_kernel|beta[12]_power)$"
    r"|/(Momentum|Adam(_1)?|RMSProp(_1)?|ExponentialMovingAverage)$"
)


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

    def places(self, module: nn.Module, gradients: bool = False) -> list[Tensor]:
        """Views of the tensors that hold this variable in `module`, or of their gradients."""
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        places = []
        for name, rows in self.targets:
            tensor = state[name]
            if gradients:
                tensor = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            places.append(tensor if rows is None else tensor[rows])
        return places


Table = dict[str, Variable]


def is_skipped(name: str) -> bool:
    """Whether this variable of a checkpoint is no weight: slots, counters, resize filters, position maps."""
    return _SKIPPED.search(name) is not None


def table_of(module: nn.Module) -> Table:
    """Return the variables of a graph or network, by their name below the scope they stand in.

    Raises:
        ValueError: if the release has no such module.
    """
    if isinstance(module, RSTG):
        return _graph_table(module, "")
    if isinstance(module, SyncMNISTNet) and isinstance(module.graph, RSTG):
        return _syncmnist_table(module)
    raise ValueError(f"the authors released no weights for a {type(module).__name__}")


def local_names(variables: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the variables under the names of `table`: without scopes, and with cuDNN's blobs unpacked."""
    arrays: dict[str, Any] = {}
    for full, value in variables.items():
        name = full.split(":")[0]
        if is_skipped(name) and not name.endswith(_OPAQUE):
            continue
        name = re.sub(r"^.*?whole_graph_model_[^/]*/", "", name)
        name = re.sub(r"^tower/", "", name)
        if name in arrays:
            raise ValueError(f"two variables are both {name!r} once their scopes are dropped: load one graph at a time")
        arrays[name] = value
    heads = {int(found) for name in arrays for found in re.findall(r"^attention_head(\d+)/", name)}
    if heads and min(heads) == 1:
        arrays = {
            re.sub(r"^attention_head(\d+)/", lambda m: f"attention_head{int(m[1]) - 1}/", name): value
            for name, value in arrays.items()
        }
    for name in [name for name in arrays if name.endswith(_OPAQUE)]:
        place = name.removesuffix(_OPAQUE) + _LSTM
        blob = arrays.pop(name)
        if f"{place}/kernel" not in arrays and f"{place}/kernel" in table:
            width = table[f"{place}/kernel"].shape[1] // 4
            arrays[f"{place}/kernel"], arrays[f"{place}/bias"] = unpack_cudnn_lstm(np.asarray(blob), width)
    return arrays


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


def _vector(table: Table, tf: str, target: str, size: int, rows: slice | None = None, trainable: bool = True) -> None:
    table[tf] = Variable(((target, rows),), (size,), lambda a: (a,), lambda a: a, trainable)


def _linear(table: Table, tf: str, ours: str, linear: nn.Module, leading: int, rows: slice | None = None) -> None:
    assert isinstance(linear, nn.Linear)
    width = linear.out_features if rows is None else rows.stop - rows.start
    shape = (1,) * leading + (linear.in_features, width)
    table[f"{tf}/kernel"] = Variable(
        ((f"{ours}.weight", rows),),
        shape,
        lambda a: (a.reshape(a.shape[-2:]).T,),
        lambda a: a.T.reshape(shape),
    )
    _vector(table, f"{tf}/bias", f"{ours}.bias", width, rows)


def _layer_norm(table: Table, tf: str, ours: str, norm: nn.Module) -> None:
    if not isinstance(norm, nn.Identity):
        size = norm.get_parameter("weight").shape[0]
        _vector(table, f"{tf}/gamma", f"{ours}.weight", size)
        _vector(table, f"{tf}/beta", f"{ours}.bias", size)


def _swap_gates(rows: Tensor) -> Tensor:
    """Turn TensorFlow's gates i, c, f, o into torch's i, f, c, o, or back."""
    i, second, third, o = rows.chunk(4)
    return torch.cat([i, third, second, o])


def _lstm(table: Table, place: str, ours: str, width: int) -> None:
    def read(kernel: Tensor) -> tuple[Tensor, Tensor]:
        rows = _swap_gates(kernel.T)
        return rows[:, :width], rows[:, width:]

    def write(inputs: Tensor, hidden: Tensor) -> Tensor:
        return _swap_gates(torch.cat([inputs, hidden], dim=1)).T

    kernels = ((f"{ours}.rnn.weight_ih_l0", None), (f"{ours}.rnn.weight_hh_l0", None))
    table[f"{place}{_LSTM}/kernel"] = Variable(kernels, (2 * width, 4 * width), read, write)
    # Torch's cell has two biases, of which only the sum matters: the variable goes into the first.
    biases = ((f"{ours}.rnn.bias_ih_l0", None), (f"{ours}.rnn.bias_hh_l0", None))
    table[f"{place}{_LSTM}/bias"] = Variable(
        biases,
        (4 * width,),
        lambda bias: (_swap_gates(bias), torch.zeros_like(bias)),
        lambda inputs, hidden: _swap_gates(inputs),
    )


def _graph_table(graph: RSTG, prefix: str) -> Table:
    table: Table = {}
    create = graph.create_nodes
    if isinstance(create.project, nn.Linear):
        _linear(table, "project_i3d", f"{prefix}create_nodes.project", create.project, 0)
    norm = f"{prefix}create_nodes.norm"
    if graph.input_norm == "batch":
        _vector(table, "batch_normalization/gamma", f"{norm}.weight", graph.dim)
        _vector(table, "batch_normalization/beta", f"{norm}.bias", graph.dim)
        _vector(table, "batch_normalization/moving_mean", f"{norm}.running_mean", graph.dim, trainable=False)
        _vector(table, "batch_normalization/moving_variance", f"{norm}.running_var", graph.dim, trainable=False)
    else:
        _layer_norm(table, "before_graf_ln", norm, create.norm)
    if graph.inner_time_stages:
        _lstm(table, "", f"{prefix}time", graph.dim)
    _lstm(table, "time_update_extern/", f"{prefix}final_time", graph.dim)
    _space_table(table, graph, f"{prefix}space")
    if isinstance(graph.project_out, nn.Linear):
        _linear(table, "project_back_to_i3d", f"{prefix}project_out", graph.project_out, 0)
    return table


def _space_table(table: Table, graph: RSTG, ours: str) -> None:
    send, update = graph.space.send, graph.space.update
    _linear(table, "send_messages_mlp/send_conv1", f"{ours}.send.first", send.first, 2)
    _linear(table, "send_messages_mlp/send_conv2", f"{ours}.send.second", send.second, 2)
    _layer_norm(table, "send_messages_mlp/message_ln", f"{ours}.send.norm", send.norm)
    _gather_table(table, graph.space.gather, f"{ours}.gather", send.second.out_features)
    per_scale = len(update.mlps) > 1
    folder = "update_node_mlp_" if per_scale else "update_node_mlp"
    for scale, mlp in enumerate(update.mlps):
        assert isinstance(mlp, nn.Sequential)
        for layer in range(len(mlp) // 2):
            name = f"{folder}/update_conv{layer + 1}" + (f"_type{scale + 1}" if per_scale else "")
            _linear(table, name, f"{ours}.update.mlps.{scale}.{2 * layer}", mlp[2 * layer], 1)
    _layer_norm(table, f"{folder}/update_ln", f"{ours}.update.norm", update.norm)


def _gather_table(table: Table, gather: Gather, ours: str, message_dim: int) -> None:
    attention = gather.attention
    query, key = f"{ours}.attention.query", f"{ours}.attention.key"
    if attention.kind == "multihead":
        assert gather.project is not None
        width, part = attention.query.out_features // attention.heads, message_dim // attention.heads
        for h, project in enumerate(gather.project):
            rows = slice(h * width, (h + 1) * width)
            scope = f"attention_head{h}"
            _linear(table, f"{scope}/dot_product_attn/att_conv1", query, attention.query, 1, rows)
            _linear(table, f"{scope}/dot_product_attn/att_conv2", key, attention.key, 1, rows)
            bias = slice(h * part, (h + 1) * part)
            _vector(table, f"{scope}/dot_product_attn/att_bias/biases", f"{ours}.bias", part, bias)
            _linear(table, f"{scope}/messages_proj", f"{ours}.project.{h}", project, 2)
        return
    scope = "my_attn" if attention.kind == "additive" else "dot_product_attn"
    _linear(table, f"{scope}/att_conv1", query, attention.query, 1)
    _linear(table, f"{scope}/att_conv2", key, attention.key, 1)
    _vector(table, f"{scope}/att_bias/biases", f"{ours}.bias", message_dim)
    _layer_norm(table, f"{scope}/att_ln", f"{ours}.norm", gather.norm)


def _syncmnist_table(model: SyncMNISTNet) -> Table:
    assert isinstance(model.graph, RSTG)
    table = _graph_table(model.graph, "graph.")
    for index, layer in enumerate(model.cnn.layers):
        assert isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv2d)
        conv, name = layer[0], f"cnn.layers.{index}.0"
        size, inner, outer = conv.kernel_size, conv.in_channels, conv.out_channels
        table[f"conv{index}/conv2d/kernel"] = Variable(
            ((f"{name}.weight", None),),
            (*size, inner, outer),
            lambda a: (a.permute(3, 2, 0, 1),),
            lambda a: a.permute(2, 3, 1, 0),
        )
        _vector(table, f"conv{index}/conv2d/bias", f"{name}.bias", outer)
    _linear(table, "pred", "classifier", model.classifier, 3)
    return table
