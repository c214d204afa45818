"""TensorFlow checkpoints: a real one bit for bit, damage of every kind, and the command that imports one."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tf_files import slow_crc32c, write_checkpoint

import rstg
from rstg.cli.main import main
from rstg.interop.checksum import crc32c, masked_crc32c
from rstg.interop.released import graph_from_config, load_variables
from rstg.interop.tf_checkpoint import Checkpoint
from rstg.interop.tf_index import DamagedIndexError, read_index

NAME = "model_12345.ckpt"


@pytest.fixture
def real(oracle, tmp_path):
    """A copy of a checkpoint that TensorFlow wrote."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(oracle.path("ckpt_graph_g4"), folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def test_checksum_is_the_bit_by_bit_definition():
    assert crc32c(b"123456789") == 0xE3069283
    for length in (0, 1, 7, 8, 9, 64, 101):
        data = random.Random(length).randbytes(length)
        assert crc32c(data) == slow_crc32c(data)


def test_a_real_checkpoint_is_read_bit_for_bit_and_gives_the_case_s_outputs(oracle, real):
    case, weights, x = oracle.case("graph_g4_dot_scalewise_LN_k3_proj_14.npz")
    checkpoint = Checkpoint(real)
    found = checkpoint.read_all()
    assert found["global_step"] == 12345
    names = [name for name in weights if not oracle.golden.is_fixed(name)]
    assert len(names) > 20
    for name in names:
        assert found[name].tobytes() == weights[name].tobytes() and found[name].shape == weights[name].shape, name
    facts = case["meta"]["graph"]
    project = (facts["project_i3d"], facts["project_i3d_back"])
    graph = graph_from_config(case["meta"]["flags"], facts["C"], project=project).eval()
    load_variables(graph, found)
    with torch.no_grad():
        assert np.abs(graph(x).numpy() - case["out/video_feats"]).max() < 5e-5


def test_many_tensors_in_several_data_files(tmp_path):
    rs = np.random.RandomState(0)
    shapes = [(), (7,), (0, 3), (3, 1, 5), (1, 1, 60, 9)]
    tensors = {
        f"tower/part_{i // 10}/with/long/names/{i}/kernel": rs.standard_normal(shapes[i % 5]).astype(np.float32)
        for i in range(348)
    }
    tensors = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    tensors["global_step"] = np.asarray(7, np.int64)
    write_checkpoint(tmp_path / "model.ckpt-7", tensors, shards=3)
    found = Checkpoint(tmp_path / "model.ckpt-7.index").read_all(skip=lambda name: name.endswith("/5/kernel"))
    assert len(found) == 348
    for name, value in found.items():
        assert value.tobytes() == tensors[name].tobytes() and value.shape == tensors[name].shape
    (tmp_path / "model.ckpt-7.data-00001-of-00003").unlink()
    with pytest.raises(FileNotFoundError, match="data-00001-of-00003"):
        Checkpoint(tmp_path).read_all()


def damage(folder):
    """Return the message of the error that the folder's checkpoint gives, or None if it reads well."""
    try:
        Checkpoint(folder).read_all()
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


def test_every_flipped_byte_of_the_index_is_refused(real):
    index = real / f"{NAME}.index"
    good = index.read_bytes()
    assert len(read_index(good)[1]) == len(Checkpoint(real).entries)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x80 if place % 2 else 1
        with pytest.raises(DamagedIndexError):
            read_index(bytes(bad))
    for length in range(0, len(good), 7):
        with pytest.raises(DamagedIndexError):
            read_index(good[:length])
    index.write_bytes(good[1:])
    assert f"{NAME}.index cannot be read as the index" in damage(real)


def test_an_index_with_true_checksums_and_wrong_content_is_refused(tmp_path):
    noise = random.Random(0)
    tensors = {f"scope/{i}/kernel": np.ones((2, i), np.float32) for i in range(1, 30)}
    (start, size), *_ = write_checkpoint(tmp_path / "m", tensors)
    good = (tmp_path / "m.index").read_bytes()
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(noise.randint(1, 3)):
            bad[start + noise.randrange(size)] = noise.choice((0, 1, 127, 128, 255, noise.randrange(256)))
        struct.pack_into("<I", bad, start + size + 1, masked_crc32c(bytes(bad[start : start + size + 1])))
        (tmp_path / "m.index").write_bytes(bad)
        refused += damage(tmp_path) is not None
    assert refused > 300


def test_data_that_changed_or_is_cut_short_names_the_tensor(real):
    data = real / f"{NAME}.data-00000-of-00001"
    good = data.read_bytes()
    for place in random.Random(0).sample(range(len(good)), 100):
        bad = bytearray(good)
        bad[place] ^= 4
        data.write_bytes(bad)
        assert "do not match their checksum" in damage(real)
    data.write_bytes(good[:-1])
    assert "cut short" in damage(real) and "tensor 'tower/" in damage(real)


def test_names_that_are_not_there_list_those_that_are(real):
    with pytest.raises(ValueError, match="did you mean 'global_step'"):
        Checkpoint(real / NAME).read("global_stp")
    with pytest.raises(FileNotFoundError, match=f"there are {NAME}"):
        Checkpoint(real / "model_1.ckpt")
    (real / "checkpoint").write_text('model_checkpoint_path: "model_99.ckpt"\n')
    with pytest.raises(FileNotFoundError, match=rf"names 'model_99.ckpt'.*{NAME}"):
        Checkpoint(real)
    (real / "checkpoint").unlink()
    assert Checkpoint(real).prefix.name == NAME
    shutil.copy(real / f"{NAME}.index", real / "other.ckpt.index")
    with pytest.raises(ValueError, match=r"no file 'checkpoint'.*other"):
        Checkpoint(real)


def test_the_command_imports_the_syncmnist_network(oracle, tmp_path, capsys):
    case, weights, video = oracle.case("model_simple_mnist.npz")
    slots = {f"{name}/Momentum": np.ones_like(value) for name, value in weights.items()}
    write_checkpoint(tmp_path / "run" / "model_5.ckpt", {**weights, **slots, "global_step": np.asarray(5, np.int64)})
    config = tmp_path / "mnist_config.yaml"
    config.write_text(yaml.safe_dump(case["meta"]["flags"]))
    given = ["import", "released", "--config", str(config), "--checkpoint", str(tmp_path / "run"), "--out"]
    code = "import sys; from rstg.cli.main import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, *given, str(tmp_path / "model")], check=True)
    model = rstg.load(tmp_path / "model")
    with torch.no_grad():
        assert np.abs(model(video).numpy() - case["out/logits"]).max() < 5e-5
    write_checkpoint(tmp_path / "run" / "model_5.ckpt", {n: v for n, v in weights.items() if "pred/" not in n})
    assert main([*given, str(tmp_path / "other")]) == 2
    assert "missing: pred/kernel" in capsys.readouterr().err and not (tmp_path / "other").exists()
    config.write_text("- a\n- b\n")
    assert main([*given, str(tmp_path / "other")]) == 2
    assert "holds no settings" in capsys.readouterr().err
