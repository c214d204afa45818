"""rstg data: what it writes is the dataset, whole or cut off and gone on with; what a user gets wrong is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from rstg.cli.main import main
from rstg.data import SceneConfig, Scenes, SyncMNIST, load_digits, pair_names

OPTIONS = ["--digits", "4", "--frames", "6", "--noise-parts", "2", "--behind", "0.5", "--split", "val", "--seed", "9"]


def expected(count: int) -> dict[str, np.ndarray]:
    config = SceneConfig(digits=4, frames=6, noise_parts=2, behind=0.5)
    batch = SyncMNIST(Scenes(load_digits(split="val"), count, config, seed=9)).batch(range(count))
    return {key: value.numpy() for key, value in batch.items()}


def archives(folder: Path) -> dict[str, np.ndarray]:
    parts = [dict(np.load(path)) for path in sorted((folder / "npz").iterdir())]
    assert all(part.pop("label_names").tolist() == pair_names() for part in parts)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_files_hold_the_dataset_and_the_manifest_says_which(tmp_path):
    pytest.importorskip("av")
    command = ["data", "syncmnist", "--out", str(tmp_path), *OPTIONS, "--videos", "7", "--per-file", "3"]
    assert main([*command, "--shown", "2", "--format", "sheet,gif,webm,npz"]) == 0
    whole = expected(7)
    written = archives(tmp_path)
    assert set(written) == set(whole)
    for key, value in whole.items():
        assert written[key].dtype == value.dtype and np.array_equal(written[key], value), key

    for v in range(2):
        frames = [np.asarray(f.convert("L")) for f in ImageSequence.Iterator(Image.open(tmp_path / f"gif/{v:06d}.gif"))]
        large = whole["clip"][v, :, 0].repeat(4, 1).repeat(4, 2)
        assert np.array_equal(np.stack(frames)[:, -256:], large)
        import av

        with av.open(str(tmp_path / f"webm/{v:06d}.webm")) as container:
            decoded = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
            codec = container.streams.video[0].codec_context.name
        assert codec.endswith("vp9")
        assert decoded.shape == np.stack(frames).shape and np.abs(decoded.astype(int) - np.stack(frames)).mean() < 2
    assert Image.open(tmp_path / "contact_sheet.png").size[0] > 500

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    found = everything(tmp_path)
    assert set(manifest["files"]) == set(found) and manifest["complete"]
    assert sum(f["videos"] for name, f in manifest["files"].items() if name.startswith("npz")) == 7
    assert manifest["seed"] == 9 and manifest["scene"]["noise_parts"] == 2
    assert manifest["digits_sha256"] == load_digits(split="val").fingerprint

    assert main([*command, "--shown", "2", "--format", "npz,gif"]) == 0
    assert everything(tmp_path) == found
    (tmp_path / "npz" / "00001.npz").unlink()
    assert main([*command, "--format", "npz"]) == 0
    assert everything(tmp_path)["npz/00001.npz"][1] == found["npz/00001.npz"][1]


def test_an_export_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    command = [sys.executable, "-c", "import sys; from rstg.cli.main import main; sys.exit(main())"]
    command += ["data", "syncmnist", "--format", "npz", "--videos", "600", "--per-file", "30"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--out", str(cut)], stderr=subprocess.DEVNULL, env=environment)
    end = time.monotonic() + 60
    while not (cut / "npz" / "00002.npz").is_file():
        assert process.poll() is None and time.monotonic() < end, "the export ended or did not start"
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0
    before = {name: value for name, value in everything(cut).items() if not name.split("/")[-1].startswith(".")}
    assert 3 <= len(before) < 20 and not json.loads((cut / "manifest.json").read_text())["complete"]
    for folder in (cut, whole):
        assert main([*command[3:], "--out", str(folder)]) == 0
    after = everything(cut)
    # All but the file that may have been complete and not yet listed.
    assert sum(after[name][0] != before[name][0] for name in before) <= 1
    assert {name: data for name, (_, data) in after.items()} == {n: data for n, (_, data) in everything(whole).items()}
    assert (cut / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_predefined_scenes_become_the_same_videos(tmp_path, predefined_file, capsys):
    scenes = Scenes(load_digits(split="test"), 1000, SceneConfig(digits=3, frames=4), seed=2)
    file = predefined_file(scenes)
    command = ["data", "syncmnist", "--predefined", str(file), "--format", "npz", "--videos", "20"]
    assert main([*command, "--split", "test", "--out", str(tmp_path / "out")]) == 0
    drawn = SyncMNIST(scenes).batch(range(20))
    written = archives(tmp_path / "out")
    assert np.array_equal(written["clip"], drawn["clip"].numpy())
    assert np.array_equal(written["label"], drawn["label"].numpy())
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seed"] is None
    capsys.readouterr()
    for more, told in {
        ("--split", "train"): "1000 MNIST images",
        ("--split", "val"): "--split val",
        ("--split", "test", "--digits", "3"): "--digits",
        ("--split", "test", "--videos", "2000"): "holds 1000",
    }.items():
        assert main([*command, *more, "--out", str(tmp_path / "no")]) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "sheet,gf"], "did you mean 'gif'"),
        (["--split", "tst"], "did you mean 'test'"),
        (["--digits", "11"], "digits=11"),
        (["--videos", "0"], "videos"),
        (["--nois-parts", "2"], "did you mean 'noise-parts'"),
        (["--source", "no/such/folder"], "no/such/folder"),
        (["--download"], "mnist-5k"),
        (["--predefined", "no-such.pkl"], "no-such.pkl"),
        (["--shown", "5000"], "--shown 5000"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(options, told, tmp_path, capsys):
    assert main(["data", "syncmnist", "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_videos_is_left_alone(tmp_path, capsys):
    command = ["data", "syncmnist", "--format", "npz", "--videos", "3", "--out", str(tmp_path)]
    assert main(command) == 0
    found = everything(tmp_path)
    for more, told in {("--digits", "3"): "digits is 5 there and 3 here", ("--seed", "1"): "seed is 0 there"}.items():
        assert main([*command, *more]) == 2
        assert told in capsys.readouterr().err
    assert everything(tmp_path) == found
    (tmp_path / "manifest.json").write_text("{}")
    assert main(command) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_webm_without_pyav_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["data", "syncmnist", "--format", "webm", "--out", str(tmp_path / "out")]) == 2
    assert "rstg[video]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["dta"], "did you mean 'data'"), (["data", "syncmist"], "did you mean 'syncmnist'"), (["data"], "COMMAND")],
)
def test_an_unknown_command_gets_the_nearest_name(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_help_lists_the_commands_without_loading_torch():
    code = "import sys; from rstg.cli.main import main\ntry: main(['data', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'jsonargparse' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "syncmnist" in done.stdout and "rstg data COMMAND --help" in done.stdout
