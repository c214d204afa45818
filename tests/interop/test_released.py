"""Parity with the authors' TensorFlow code: outputs, intermediates and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rstg.interop.released import dump_variables, graph_from_config, load_variables, model_from_config

GRAPHS = (
    "graph_g1_simple_k1",
    "graph_g2_mnist_simple_pos_k3",
    "graph_g3_dot_scalewise_LN_k3",
    "graph_g4_dot_scalewise_LN_k3_proj_14",
    "graph_g6_dot_pos_none_k1_proj",
)


def largest_error(got: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else got
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max())


def build(case, weights, output):
    facts = case["meta"]["graph"]
    project = (facts["project_i3d"], facts["project_i3d_back"])
    graph = graph_from_config(case["meta"]["flags"], facts["C"], project=project, output=output).eval()
    load_variables(graph, weights)
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_outputs_and_intermediates_match(oracle, name):
    case, weights, x = oracle.case(f"{name}.npz")
    graph = build(case, weights, "vec")
    seen = {}
    graph.space.register_forward_hook(lambda m, i, out: seen.setdefault("update", []).append(out[0]))
    graph.space.send.register_forward_hook(lambda m, i, out: seen.setdefault("messages", []).append(out))
    graph.final_time.register_forward_hook(lambda m, i, out: seen.setdefault("lstm", []).append(out[0]))
    with torch.no_grad():
        assert largest_error(graph(x), case["out/video_feats"]) < 5e-5
        volume = build(case, weights, "map")(x).permute(0, 2, 3, 4, 1)
    assert largest_error(volume, case["out/regions_feats"]) < 5e-5
    last = case["mid/update_last"]
    assert largest_error(seen["update"][-1][:, -1], last) < 1e-4 * np.abs(last).max()
    messages = case["mid/messages_last"]
    assert largest_error(seen["messages"][-1][:, -1], messages) < 1e-4 * np.abs(messages).max()
    lstm = torch.from_numpy(case["mid/lstm_extern"]).unflatten(1, (x.shape[0], -1)).transpose(0, 1)
    assert largest_error(seen["lstm"][0], lstm.numpy()) < 1e-4 * lstm.abs().max()


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_gradients_match(oracle, name):
    case, weights, x = oracle.case(f"{name}.npz")
    graph = build(case, weights, "vec")
    x = x.clone().requires_grad_()
    (graph(x) * torch.from_numpy(case["loss_weight_R"])).sum().backward()
    gradients = dump_variables(graph, gradients=True)
    expected = {key.removeprefix("grad/"): value for key, value in case.items() if key.startswith("grad/")}
    given = expected.pop("input")
    assert largest_error(x.grad.permute(0, 2, 3, 4, 1), given) < 1e-4 * np.abs(given).max()
    checked = 0
    for full, value in expected.items():
        name = full.split("whole_graph_model_final/")[-1]
        if name in gradients:
            assert largest_error(gradients[name].reshape(value.shape), value) < 1e-4 * np.abs(value).max(), name
            checked += 1
    assert checked == len(gradients)


def test_syncmnist_network_matches(oracle):
    case, weights, video = oracle.case("model_simple_mnist.npz")
    model = model_from_config(case["meta"]["flags"]).eval()
    load_variables(model, weights)
    with torch.no_grad():
        assert largest_error(model(video), case["out/logits"]) < 5e-5
