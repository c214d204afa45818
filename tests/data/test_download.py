"""MNIST's download, from a server on this machine: complete files or one clear error, and never half a file."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from torchvision.datasets import MNIST

from rstg.cli.main import main
from rstg.data import load_digits


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder served over HTTP with four small files of MNIST's names, as torchvision's only mirror."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 50)):
        labels = np.arange(count, dtype=np.uint8) // 2 % 10
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", list(sums.items()))
    yield folder
    server.shutdown()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_mnist_is_fetched_once_and_used(mirror, tmp_path):
    home = tmp_path / "home"
    out = ["data", "syncmnist", "--format", "npz", "--videos", "4", "--source", str(home), "--out"]
    assert main([*out, str(tmp_path / "a"), "--download"]) == 0
    assert names(home) == names(mirror)
    assert len(load_digits(str(home), "trainval")) == 200 and len(load_digits(str(home), "test")) == 50
    for file in mirror.iterdir():
        file.unlink()
    assert main([*out, str(tmp_path / "b"), "--download"]) == 0
    assert (tmp_path / "a/npz/00000.npz").read_bytes() == (tmp_path / "b/npz/00000.npz").read_bytes()


@pytest.mark.parametrize("fault", ["other bytes", "cut off", "missing", "unreachable"])
def test_a_failed_download_is_one_error_and_leaves_nothing(fault, mirror, tmp_path, capsys, monkeypatch):
    file = mirror / "t10k-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    if fault == "other bytes":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif fault == "cut off":
        file.write_bytes(whole[: len(whole) // 2])
    elif fault == "missing":
        file.unlink()
    else:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    home = tmp_path / "home"
    command = ["data", "syncmnist", "--source", str(home), "--out", str(tmp_path / "out")]
    assert main([*command, "--download"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rstg")]
    assert len(error) == 1 and "MNIST could not be downloaded" in error[0] and "mnist-5k" in error[0]
    assert "t10k-images-idx3-ubyte.gz" in error[0] or fault == "unreachable"
    assert names(home) == [] and not (tmp_path / "out").exists()
    # What comes next is not fooled by leftovers.
    assert main(command) == 2
    assert "train-images-idx3-ubyte" in capsys.readouterr().err
    if fault != "unreachable":
        file.write_bytes(whole)
        assert main([*command, "--format", "npz", "--videos", "2", "--download"]) == 0


def test_a_mirror_that_says_nothing_is_given_up(mirror, tmp_path, monkeypatch):
    import socket

    import rstg.data.digits as digits

    monkeypatch.setattr(digits, "_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        with pytest.raises(ConnectionError, match="could not be downloaded"):
            load_digits(str(tmp_path / "home"), download=True)
    assert socket.getdefaulttimeout() is None and names(tmp_path / "home") == []
