"""The TensorFlow variables of one graph of the authors' release."""

from __future__ import annotations

from torch import nn

from rstg.graph import RSTG
from rstg.graph.space import Gather
from rstg.interop.tf_layouts import Table, batch_norm, layer_norm, linear, lstm, vector


def graph_table(graph: RSTG, prefix: str) -> Table:
    """Return the variables of one graph, by their names below `whole_graph_model_<place>/`.

    Args:
        graph: The graph.
        prefix: What its parameters' names begin with, in the module that holds it.

    Raises:
        ValueError: if it has an option that the release does not have.
    """
    create = graph.create_nodes
    if graph.schedule != "all" or graph.final_time.cell != "lstm" or create.moments or create.motion:
        raise ValueError(
            "the authors' graphs have schedule='all', cell='lstm', pooling='mean' and no motion; this one differs"
        )
    table: Table = {}
    if isinstance(create.project, nn.Linear):
        linear(table, "project_i3d", f"{prefix}create_nodes.project", create.project, 0)
    norm = f"{prefix}create_nodes.norm"
    if graph.input_norm == "batch":
        batch_norm(table, "batch_normalization", norm, create.norm)
    else:
        layer_norm(table, "before_graf_ln", norm, create.norm)
    if graph.inner_time_stages:
        lstm(table, "", f"{prefix}time", graph.dim)
    lstm(table, "time_update_extern/", f"{prefix}final_time", graph.dim)
    _space_table(table, graph, f"{prefix}space")
    if isinstance(graph.project_out, nn.Linear):
        linear(table, "project_back_to_i3d", f"{prefix}project_out", graph.project_out, 0)
    return table


def _space_table(table: Table, graph: RSTG, ours: str) -> None:
    send, update = graph.space.send, graph.space.update
    linear(table, "send_messages_mlp/send_conv1", f"{ours}.send.first", send.first, 2)
    linear(table, "send_messages_mlp/send_conv2", f"{ours}.send.second", send.second, 2)
    layer_norm(table, "send_messages_mlp/message_ln", f"{ours}.send.norm", send.norm)
    _gather_table(table, graph.space.gather, f"{ours}.gather", send.second.out_features)
    per_scale = len(update.mlps) > 1
    folder = "update_node_mlp_" if per_scale else "update_node_mlp"
    for scale, mlp in enumerate(update.mlps):
        assert isinstance(mlp, nn.Sequential)
        for layer in range(len(mlp) // 2):
            name = f"{folder}/update_conv{layer + 1}" + (f"_type{scale + 1}" if per_scale else "")
            linear(table, name, f"{ours}.update.mlps.{scale}.{2 * layer}", mlp[2 * layer], 1)
    layer_norm(table, f"{folder}/update_ln", f"{ours}.update.norm", update.norm)


def _gather_table(table: Table, gather: Gather, ours: str, message_dim: int) -> None:
    attention = gather.attention
    query, key = f"{ours}.attention.query", f"{ours}.attention.key"
    if attention.kind == "multihead":
        assert gather.project is not None
        width, part = attention.query.out_features // attention.heads, message_dim // attention.heads
        for h, project in enumerate(gather.project):
            rows = slice(h * width, (h + 1) * width)
            scope = f"attention_head{h}"
            linear(table, f"{scope}/dot_product_attn/att_conv1", query, attention.query, 1, rows)
            linear(table, f"{scope}/dot_product_attn/att_conv2", key, attention.key, 1, rows)
            bias = slice(h * part, (h + 1) * part)
            vector(table, f"{scope}/dot_product_attn/att_bias/biases", f"{ours}.bias", part, bias)
            linear(table, f"{scope}/messages_proj", f"{ours}.project.{h}", project, 2)
        return
    scope = "my_attn" if attention.kind == "additive" else "dot_product_attn"
    linear(table, f"{scope}/att_conv1", query, attention.query, 1)
    linear(table, f"{scope}/att_conv2", key, attention.key, 1)
    vector(table, f"{scope}/att_bias/biases", f"{ours}.bias", message_dim)
    layer_norm(table, f"{scope}/att_ln", f"{ours}.norm", gather.norm)
