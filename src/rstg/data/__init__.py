"""Videos in, clips out: the synthetic SyncMNIST and the digits it is made of; real videos."""

from rstg.data.deadline import GuardedDecoder
from rstg.data.digits import Digits, load_digits
from rstg.data.frame_folder import FrameFolder
from rstg.data.idx import read_idx
from rstg.data.predefined import read_predefined
from rstg.data.render import render
from rstg.data.scenes import SceneConfig, Scenes, pair_names
from rstg.data.syncmnist import PredefinedScenes, SyncMNIST
from rstg.data.video import VideoError, VideoFile, VideoInfo, open_video, probe, read_frames

__all__ = [
    "Digits",
    "FrameFolder",
    "GuardedDecoder",
    "PredefinedScenes",
    "SceneConfig",
    "Scenes",
    "SyncMNIST",
    "VideoError",
    "VideoFile",
    "VideoInfo",
    "load_digits",
    "open_video",
    "pair_names",
    "probe",
    "read_frames",
    "read_idx",
    "read_predefined",
    "render",
]
