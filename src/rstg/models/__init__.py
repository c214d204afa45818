"""Networks made of a backbone, the graph block and a head."""

from rstg.models.cnn import FrameCNN
from rstg.models.graph_branch import GraphBranch
from rstg.models.nonlocal_block import NonLocalBlock
from rstg.models.resnet3d import ResNet3D
from rstg.models.syncmnist import SyncMNISTNet
from rstg.models.video_rstg import VideoRSTG
from rstg.models.zoo import create_model, list_models

__all__ = [
    "FrameCNN",
    "GraphBranch",
    "NonLocalBlock",
    "ResNet3D",
    "SyncMNISTNet",
    "VideoRSTG",
    "create_model",
    "list_models",
]
