"""The authors' ResNet networks: against their outputs, and against the same written out plainly."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import yaml
from tf_files import write_checkpoint
from torch import nn

import rstg
from rstg.cli.main import main
from rstg.interop.released import dump_variables, graph_from_config, load_variables, model_from_config
from rstg.models.cost import count_parameters
from rstg.models.zoo import name_of

COMMON = {
    "classification_dropout": 0.3,
    "comb_type": "plus",
    "dataset": "smt-smt",
    "final_norm": "LN",
    "message_dims": 512,
    "multihead_att": False,
    "node_feat_dim": 512,
    "num_chan": 3,
    "num_classes": 7,
    "num_process_iter": 3,
    "num_scales": 3,
    "scalewise_update": True,
    "update_layers": 2,
    "use_att": "dot",
    "use_norm": "LN",
    "use_positional_emb": False,
}
# Backbone, place of the graph, place of the non-local blocks, name in the zoo, and how many numbers a checkpoint holds.
RELEASED = {
    "c2d": ("c2d", "none", "none", "c2d_r50", 23_575_495),
    "c2d_rstg": ("c2d", "final", "none", "rstg_c2d_r50", 33_556_423),
    "i3d": ("i3d", "none", "none", "i3d_r50", 27_291_335),
    "i3d_rstg_final": ("i3d", "final", "none", "rstg_i3d_r50_vec", 37_272_263),
    "i3d_rstg_res3_res4": ("i3d", "res3-res4", "none", "rstg_i3d_r50_res34", 44_098_759),
    "non-local": ("non-local", "none", "res3-res4", "nl_i3d_r50", 34_657_991),
}
_TEMPORAL = {"res2": (1, 1, 1), "res3": (1, 0, 1, 0), "res4": (1, 0, 1, 0, 1, 0), "res5": (0, 1, 0)}


def config(name: str) -> dict:
    backbone, graph, nonlocal_, _, _ = RELEASED[name]
    return COMMON | {"backbone_model": backbone, "place_graph": graph, "place_nonlocal": nonlocal_}


def expected_shapes(settings: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a ResNet's variables (without its graphs' own), as the release has them."""
    i3d, shapes = settings["backbone_model"] != "c2d", {}

    def conv(name, *shape):
        shapes[f"{name}/kernel"] = shape

    def bn(name, size):
        shapes.update({f"{name}/{leaf}": (size,) for leaf in ("gamma", "beta", "moving_mean", "moving_variance")})

    conv("backbone/conv1", 5 if i3d else 1, 7, 7, 3, 64)
    bn("backbone/res_conv1_bn", 64)
    before = 64
    for stage, temporal in _TEMPORAL.items():
        inner = 64 * 2 ** (int(stage[-1]) - 2)
        for index, wide in enumerate(temporal):
            name = f"backbone/{stage}_{index}_branch"
            conv(f"{name}2a", 3 if wide and i3d else 1, 1, 1, before, inner)
            conv(f"{name}2b", 1, 3, 3, inner, inner)
            conv(f"{name}2c", 1, 1, 1, inner, 4 * inner)
            for letter, size in (("a", inner), ("b", inner), ("c", 4 * inner)):
                bn(f"{name}2{letter}_bn", size)
            if index == 0:
                conv(f"{name}1", 1, 1, 1, before, 4 * inner)
                bn(f"{name}1_bn", 4 * inner)
            before = 4 * inner
            if settings["place_nonlocal"] != "none" and stage in ("res3", "res4") and index % 2:
                name = f"backbone/nonlocal_conv{stage[-1]}_{index}"
                for part, (a, b) in {"theta": (2, 1), "phi": (2, 1), "g": (2, 1), "out": (1, 2)}.items():
                    conv(f"{name}_{part}", 1, 1, 1, a * before // 2, b * before // 2)
                    shapes[f"{name}_{part}/bias"] = (b * before // 2,)
                bn(f"{name}_bn", before)
    for place in settings["place_graph"].split("-"):
        if place != "none":
            size = {"res3": 512, "res4": 1024, "final": 2048}[place]
            norm = f"{place}_after_graph_ln" if i3d else "after_graph_ln"
            norm = norm if place == "final" else f"backbone/{norm}"
            shapes |= {f"{norm}/beta": (size,), f"{norm}_scale": (size,)}
    return shapes | {"pred/kernel": (1, 1, 1, 2048, 7), "pred/bias": (7,)}


def random_variables(model: nn.Module, settings: dict) -> dict[str, np.ndarray]:
    """Variables of a checkpoint, with all their scopes, that keep activations of order one."""
    scope = "tower/resnet_c2d" if settings["backbone_model"] == "c2d" else "tower/resnet_i3d"
    out = {}
    for name, value in dump_variables(model).items():
        draw = np.random.RandomState(zlib.crc32(name.encode()) % 2**32).standard_normal(value.shape)
        leaf = name.split("/")[-1]
        if leaf == "kernel":
            draw *= np.sqrt(2 / np.prod(value.shape[:-1]))
        elif leaf == "moving_variance":
            draw = np.exp(0.3 * draw)
        elif leaf == "gamma":
            draw = (0.5 if "branch" in name or "nonlocal" in name else 1.0) * (1 + 0.2 * draw)
        elif leaf.endswith("_scale"):
            draw = 0.5 + 0.2 * draw
        else:
            draw *= 0.2
        out[f"{scope}/{name}"] = draw.astype(np.float32)
    return out


def reference(variables: dict[str, np.ndarray], settings: dict, clip: torch.Tensor) -> torch.Tensor:
    """The network, written out in functions of the TensorFlow variables; the graphs themselves are ours."""
    names = {name.split("/", 2)[2]: torch.from_numpy(value) for name, value in variables.items()}
    i3d = settings["backbone_model"] != "c2d"

    def conv(x, name, stride=1, pad=(0, 0, 0)):
        kernel = names[f"{name}/kernel"].permute(4, 3, 0, 1, 2)
        t, h, w = pad
        x = nn.functional.pad(x, (w, w, h, h, t, t))
        return nn.functional.conv3d(x, kernel, names.get(f"{name}/bias"), (1, stride, stride))

    def bn(x, name):
        gamma, beta, mean, var = (
            names[f"{name}/{leaf}"].view(-1, 1, 1, 1) for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * gamma + beta

    def after_graph(x, name):
        axes = tuple(range(1, x.ndim))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        column = (-1,) + (1,) * (x.ndim - 2)
        beta, scale = names[f"{name}/beta"].view(column), names[f"{name}_scale"].view(column)
        return scale * ((x - mean) / torch.sqrt(var + 1e-12) + beta)

    def graph(x, place, output):
        scope = ("" if place == "final" else "backbone/") + f"whole_graph_model_{place}/"
        inner = {name.removeprefix(scope): value for name, value in names.items() if name.startswith(scope)}
        block = graph_from_config(settings, x.shape[1], project=(x.shape[1] != 512,) * 2, output=output).eval()
        load_variables(block, {name: value.numpy() for name, value in inner.items()})
        name = f"{place}_after_graph_ln" if i3d else "after_graph_ln"
        return after_graph(block(x), name if place == "final" else f"backbone/{name}")

    def non_local(x, name):
        half = nn.functional.max_pool3d(x, (1, 2, 2))
        theta, phi, g = (conv(y, f"{name}_{part}").flatten(2) for y, part in ((x, "theta"), (half, "phi"), (half, "g")))
        weights = torch.softmax(theta.transpose(1, 2) @ phi / theta.shape[1] ** 0.5, 2)
        heard = (g @ weights.transpose(1, 2)).view(x.shape[0], -1, *x.shape[2:])
        return x + bn(conv(heard, f"{name}_out"), f"{name}_bn")

    x = (clip.float() - 114.75) / 57.375
    x = torch.relu(bn(conv(x, "backbone/conv1", 2, (2 if i3d else 0, 3, 3)), "backbone/res_conv1_bn"))
    x = nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2))
    for stage, temporal in _TEMPORAL.items():
        for index, wide in enumerate(temporal):
            name = f"backbone/{stage}_{index}_branch"
            stride = 2 if index == 0 and stage in ("res3", "res4") else 1
            y = torch.relu(bn(conv(x, f"{name}2a", 1, (int(wide and i3d), 0, 0)), f"{name}2a_bn"))
            y = torch.relu(bn(conv(y, f"{name}2b", stride, (0, 1, 1)), f"{name}2b_bn"))
            y = bn(conv(y, f"{name}2c"), f"{name}2c_bn")
            x = torch.relu(y + (bn(conv(x, f"{name}1", stride), f"{name}1_bn") if index == 0 else x))
            if settings["place_nonlocal"] != "none" and stage in ("res3", "res4") and index % 2 == 1:
                x = non_local(x, f"backbone/nonlocal_conv{stage[-1]}_{index}")
            if stage in settings["place_graph"] and index == len(temporal) - 2:
                x = x + graph(x, stage, "map")
        if stage == "res2":
            x = nn.functional.max_pool3d(x, (2, 1, 1))
    vector = graph(x, "final", "vec") if settings["place_graph"] == "final" else 0
    rows, columns = (range(max(size - 13, 1)) for size in x.shape[3:])
    windows = [x[:, :, :, i : i + 14, j : j + 14].mean((2, 3, 4)) + vector for i in rows for j in columns]
    logits = [feature @ names["pred/kernel"].view(2048, -1) + names["pred/bias"] for feature in windows]
    return torch.stack(logits).mean(0)


@pytest.mark.parametrize("name", RELEASED)
def test_names_shapes_and_counts_are_the_released_ones(name):
    settings = config(name)
    model = model_from_config(settings)
    dumped = dump_variables(model)
    ours = {key: value.shape for key, value in dumped.items() if "whole_graph_model" not in key}
    assert ours == expected_shapes(settings)
    assert (name_of(model), count_parameters(model)) == RELEASED[name][3:]
    assert sum(value.size for value in dumped.values()) == RELEASED[name][4]


FAST = ("i3d_rstg_res3_res4", "non-local")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in RELEASED])
def test_network_equals_the_one_written_out(name):
    settings = config(name)
    model = model_from_config(settings).eval()
    variables = random_variables(model, settings)
    load_variables(model, variables)
    again = dump_variables(model)
    assert all(np.array_equal(again[key.split("/", 2)[2]], value) for key, value in variables.items())
    clip = torch.randint(0, 256, (2, 3, 4, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = reference(variables, settings, clip)
        assert expected.abs().max() > 0.1
        assert (model(clip) - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.slow
def test_two_clips_of_256_have_the_logits_of_the_one_written_out():
    settings = config("i3d_rstg_final")
    model = model_from_config(settings).eval()
    variables = random_variables(model, settings)
    load_variables(model, variables)
    # Three frames: the last has no pair. The map of 16x16 holds nine windows, and its thirds are no whole pixels.
    clips = torch.randint(0, 256, (2, 3, 3, 256, 256), dtype=torch.uint8)
    clips[1] //= 4
    with torch.no_grad():
        expected = torch.cat([reference(variables, settings, clip) for clip in clips.split(1)])
        assert (expected[0] - expected[1]).abs().max() > 0.1
        assert (model(clips) - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.slow
def test_the_command_imports_a_checkpoint_of_349_tensors(tmp_path):
    settings = config("i3d_rstg_res3_res4")
    direct = model_from_config(settings).eval()
    variables = random_variables(direct, settings)
    load_variables(direct, variables)
    filters = {
        f"tower/resnet_i3d/backbone/{scope}/resize_filters__{name}": np.zeros(shape, np.float32)
        for stage, size in (("res3", 28), ("res4", 14))
        for scale in (3, 2, 1)
        for scope, name, shape in (
            (f"graph_input/{stage}", f"{size}_{size}_{scale}x{scale}", (scale, scale, size, size)),
            (f"whole_graph_model_{stage}", f"{scale}_{scale}_{size}x{size}", (size, size, scale, scale)),
        )
    }
    tensors = variables | filters
    assert len(tensors) == 349
    slots = {f"{name}/Momentum": np.ones(3, np.float32) for name in variables if "moving_" not in name}
    write_checkpoint(tmp_path / "run" / "model_7.ckpt", {**tensors, **slots, "global_step": np.asarray(7, np.int64)})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    given = ["--config", str(tmp_path / "config.yaml"), "--checkpoint", str(tmp_path / "run")]
    assert main(["import", "released", *given, "--out", str(tmp_path / "model")]) == 0
    clip = torch.randint(0, 256, (1, 3, 4, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(rstg.load(tmp_path / "model").eval()(clip), direct(clip))


def test_c2d_with_a_graph_gives_the_authors_numbers(oracle):
    case, variables, video = oracle.case("model_c2d_rstg_final.npz")
    model = model_from_config(case["meta"]["flags"]).eval()
    load_variables(model, variables)
    seen = {}

    def keep(key, module):
        module.register_forward_hook(lambda _, given, out: seen.setdefault(key, []).append(out))

    for stage in ("res2", "res3", "res4", "res5"):
        for index, block in enumerate(model.backbone.blocks(stage)):
            keep(f"block/{stage}_{index}", block)
    keep("nodes", model.final.graph.project_out)
    keep("vector", model.final.graph)
    keep("residual", model.final)
    keep("inner", model.final.graph.time)
    keep("outer", model.final.graph.final_time)
    with torch.no_grad():
        logits = model(video)
        pooled = model.final.graph.create_nodes.pool(seen["block/res5_2"][0])
    assert np.abs(logits.numpy() - case["out/logits"]).max() < 5e-5

    lstm = "lstm/resnet_c2d/whole_graph_model_final"
    sequences = [out[0].transpose(0, 1).flatten(1, 2) for out in (*seen["inner"], *seen["outer"])]
    found = {key: out[0].permute(0, 2, 3, 4, 1) for key, out in seen.items() if key.startswith("block/")}
    found |= {
        "stage/res2": found["block/res2_2"],
        "stage/res3": found["block/res3_3"],
        "stage/res4": found["block/res4_5"],
        "stage/res5": found["block/res5_2"],
        "whole_graph_model_final/patch_feats": pooled,
        f"{lstm}/cudnn_lstm#0": sequences[0],
        f"{lstm}/cudnn_lstm#1": sequences[1],
        f"{lstm}/cudnn_lstm#2": sequences[2],
        f"{lstm}/time_update_extern/cudnn_lstm#0": sequences[3],
        "whole_graph_model_final/nodes_feats": seen["nodes"][0].transpose(0, 1),
    }
    sampled = {key.removeprefix("mid/").removesuffix("/sample") for key in case if key.endswith("/sample")}
    assert sampled == set(found)
    for key, value in found.items():
        error, largest = oracle.golden.compare_sample(case, f"mid/{key}", value.contiguous().numpy())
        assert error < 1e-4 * largest, key
    for key, value in (("whole_graph_model_final/video_feats", "vector"), ("graph_residual/x", "residual")):
        expected = case[f"mid/{key}"]
        assert np.abs(seen[value][0].numpy() - expected).max() < 1e-4 * np.abs(expected).max(), key


def test_what_does_not_fit_is_listed_and_leaves_the_network_as_it_was():
    settings = config("c2d_rstg")
    model = model_from_config(settings)
    variables = random_variables(model, settings)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    skipped = {
        "global_step": np.zeros(()),
        "tower/resnet_c2d/pred/bias/Momentum": np.zeros(7),
        "tower/resnet_c2d/graph_input/resize/resize_filters__14_14_3x3": np.zeros((3, 3, 14, 14)),
    }
    del variables["tower/resnet_c2d/backbone/res4_3_branch2b/kernel"]
    variables["tower/resnet_c2d/pred/kernel"] = np.zeros((1, 1, 1, 2048, 174))
    with pytest.raises(ValueError, match="fit this VideoRSTG") as error:
        load_variables(model, variables | skipped | {"tower/resnet_c2d/backbone/extra/kernel": np.zeros(3)})
    assert str(error.value).split("\n  ")[1:] == [
        "missing: backbone/res4_3_branch2b/kernel [1, 3, 3, 256, 256]",
        "shape of pred/kernel: [1, 1, 1, 2048, 174], expected [1, 1, 1, 2048, 7]",
        "unexpected: backbone/extra/kernel [3]",
    ]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_model": "resnet_2d"}, "backbone_model='resnet_2d' is not one of"),
        ({"place_graph": "res3-res6"}, "place_graph='res6' is not one of .* did you mean"),
        ({"place_nonlocal": "res3"}, "released C2D has no non-local"),
        ({"backbone_model": "i3d", "place_graph": "res3", "place_nonlocal": "res3"}, "both name res3"),
        ({"backbone_model": "i3d", "final_norm": "BN"}, "final_norm='BN' is not one of 'LN'"),
        ({"comb_type": "times"}, "comb_type='times' is not one of"),
        ({"scalewise_update": "False"}, "scalewise_update='False' is neither true nor false"),
        ({"num_scales": "three"}, "num_scales='three' is not a number"),
        ({"classification_dropout": None}, "classification_dropout=None is not a number"),
        ({"num_classes": 7.5}, "num_classes=7.5 is not a whole number"),
    ],
)
def test_settings_that_the_release_does_not_have(changes, message):
    with pytest.raises(ValueError, match=message):
        model_from_config(config("c2d_rstg") | changes)


def test_serial_is_the_graph_alone_and_other_places_have_no_released_name():
    assert model_from_config(config("i3d_rstg_final") | {"comb_type": "serial"}).config["final"] == "alone"
    for options in ({"places": ["res3_0"]}, {"temporal": "c2d", "places": ["res3", "res4"]}):
        with pytest.raises(ValueError, match="the authors"):
            dump_variables(rstg.create_model("rstg_r50", width=8, graph={"dim": 16}, **options))
