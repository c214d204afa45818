"""Networks made of a backbone, the graph block and a head."""

from rstg.models.cnn import FrameCNN
from rstg.models.syncmnist import SyncMNISTNet
from rstg.models.zoo import create_model, list_models

__all__ = ["FrameCNN", "SyncMNISTNet", "create_model", "list_models"]
