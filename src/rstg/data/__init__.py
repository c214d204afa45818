"""Videos in, clips out: the synthetic SyncMNIST and the digits it is made of."""

from rstg.data.digits import Digits, load_digits
from rstg.data.idx import read_idx
from rstg.data.predefined import read_predefined
from rstg.data.render import render
from rstg.data.scenes import SceneConfig, Scenes, pair_names
from rstg.data.syncmnist import PredefinedScenes, SyncMNIST

__all__ = [
    "Digits",
    "PredefinedScenes",
    "SceneConfig",
    "Scenes",
    "SyncMNIST",
    "load_digits",
    "pair_names",
    "read_idx",
    "read_predefined",
    "render",
]
