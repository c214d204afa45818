"""torchcodec gives the same frames as PyAV, in a process that finds the FFmpeg libraries of PyAV's package."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from video_files import av, encode

import rstg
from rstg.data import GuardedDecoder, read_frames
from rstg.data.folders import read_class_folders
from rstg.data.video_dataset import VideoDataset
from rstg.errors import MissingExtraError

FILES = {
    "b_frames.mp4": ("libx264", {"bf": "3", "g": "6"}),
    "open_gop.mkv": ("libx264", {"bf": "3", "g": "6", "x264-params": "open-gop=1"}),
    "uneven.webm": ("libvpx-vp9", {"g": "6", "times": [40 * i + 7 * i * i for i in range(20)]}),
    "hidden.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "10"}),
    "wide.webm": ("libvpx-vp9", {"size": (46, 63)}),
    "odd.webm": ("libvpx-vp9", {"size": (47, 62)}),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "6"}),
    "turned.mp4": ("libx264", {"rotation": 90}),
}
# Which of them torchcodec itself decodes is counted: PyAV stands in for AVI and an odd number of rows.
PROGRAM = """
import json, sys
import numpy as np
from rstg.data import GuardedDecoder, VideoError, read_frames, torchcodec_file
try:
    decoders = torchcodec_file.import_torchcodec()
except ValueError as error:
    print(json.dumps({"skip": str(error)}))
    sys.exit()
used = []
class Counting(decoders.VideoDecoder):
    def get_frames_at(self, at):
        used[-1] = True
        return super().get_frames_at(at)
decoders.VideoDecoder = Counting
told = {}
with GuardedDecoder(60, "torchcodec") as guarded:
    for path in sys.argv[1:]:
        same = []
        for at in (range(20), [13, 2, 2, 19], [7], []):
            used.append(False)
            expected = read_frames(path, at)
            same.append(bool(np.array_equal(read_frames(path, at, decoder="torchcodec"), expected)))
        same.append(bool(np.array_equal(guarded.read(path, [3, 11]), read_frames(path, [3, 11]))))
        told[path] = [all(same), used[-4]]
    try:
        read_frames(path, [20], "torchcodec")
    except VideoError as error:
        told["error"] = str(error)
print(json.dumps(told))
"""


def test_frames_are_those_of_pyav(tmp_path):
    if importlib.util.find_spec("torchcodec") is None:
        pytest.skip("torchcodec is not installed: pip install 'rstg[torchcodec]'")
    libraries = Path(av.__file__).parents[1] / "av.libs"
    for library in libraries.glob("lib*-*.so.*"):
        (tmp_path / library.name).symlink_to(library)
        # libavutil-5809ad29.so.60.26.102 is what is asked for as libavutil.so.60.
        (tmp_path / re.sub(r"-[0-9a-f]+\.so\.(\d+).*", r".so.\1", library.name)).symlink_to(library)
    files = [str(encode(tmp_path / name, codec, **options)) for name, (codec, options) in FILES.items()]
    paths = [str(tmp_path), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    source = str(Path(rstg.__file__).parents[1])
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths), "PYTHONPATH": source}
    command = [sys.executable, "-c", PROGRAM, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    if "skip" in told:
        pytest.skip(told["skip"])
    assert told.pop("error") == f"{files[-1]}: it has 20 frames, and frame 20 was asked for"
    by_name = {Path(path).name: found for path, found in told.items()}
    assert {name: same for name, (same, _) in by_name.items()} == dict.fromkeys(FILES, True)
    assert [name for name, (_, used) in by_name.items() if not used] == ["odd.webm", "mpeg4.avi"]


def test_without_torchcodec_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "set" / "one").mkdir(parents=True)
    file = encode(tmp_path / "set" / "one" / "v.mp4", "libx264", frames=3)
    videos = read_class_folders(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    for use in (
        lambda: read_frames(file, [0], decoder="torchcodec"),
        lambda: VideoDataset(videos, decoder="torchcodec"),
        lambda: GuardedDecoder(decoder="torchcodec"),
    ):
        with pytest.raises(MissingExtraError, match=r"torchcodec: pip install 'rstg\[torchcodec\]'"):
            use()
    with pytest.raises(ValueError, match="did you mean 'torchcodec'"):
        VideoDataset(videos, decoder="torchcodecs")
