"""Several networks trained at once on what one frozen CNN sees: an ablation's rows on the same videos."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule, seed_everything
from torch import Tensor, nn
from torch.nn import functional

from rstg.metrics import classification_metrics
from rstg.models import SyncMNISTNet
from rstg.models.syncmnist_baselines import FrameBaseline
from rstg.training.config import OptimizerConfig
from rstg.training.data import Batch
from rstg.training.modules import make_optimizer


def variants(network: SyncMNISTNet, changes: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, SyncMNISTNet]:
    """Untrained networks, by name, with the CNN of a trained one; their graphs' options differ by what is given."""
    made = {}
    for name, changed in changes.items():
        options = copy.deepcopy(network.config)
        options["graph"].update(changed)
        # Each begins as it would alone.
        seed_everything(seed, verbose=False)
        made[name] = SyncMNISTNet(**options)
        made[name].cnn.load_state_dict(network.cnn.state_dict())
    return made


class SideBySide(LightningModule):
    """Networks that differ behind a CNN of the same weights, each trained as if it were alone.

    The CNN, which costs the most, runs once a video, frozen. The sum of the losses is minimised; as the networks
    share no trained weight, and each gradient is clipped by itself, none feels the others.

    Args:
        networks: By name. optimizer: How each is trained.
    """

    def __init__(self, networks: Mapping[str, SyncMNISTNet | FrameBaseline], optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.optimizer_config = optimizer
        for network in networks.values():
            network.cnn.requires_grad_(False)
        self._seen: list[tuple[Tensor, Tensor]] = []
        # Lightning trains a module in the mode that it finds it in.
        self.train()

    def train(self, mode: bool = True) -> SideBySide:
        """Set training mode; the CNNs stay in eval mode."""
        super().train(mode)
        for network in self.networks.values():
            network.get_submodule("cnn").eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """Logits (N, B, K) of each network, of clips (B, T, C, H, W)."""
        networks: list[Any] = list(self.networks.values())
        with torch.no_grad():
            volume = networks[0].features(clip.transpose(1, 2))
        return torch.stack([network.classify(volume).float() for network in networks])

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Sum of the networks' mean cross-entropies."""
        losses = []
        for name, logits in zip(self.networks, self(batch["clip"]), strict=True):
            loss = functional.cross_entropy(logits, batch["label"])
            accuracy = (logits.detach().argmax(1) == batch["label"]).float().mean()
            figures = {f"{name}/train/loss": loss.detach(), f"{name}/train/top1": accuracy}
            self.log_dict(figures, on_step=True, on_epoch=False)
            losses.append(loss)
        return torch.stack(losses).sum()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each network's gradient by its own norm."""
        if gradient_clip_val:
            for network in self.networks.values():
                nn.utils.clip_grad_norm_(network.parameters(), gradient_clip_val)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Keep the logits of a batch."""
        self._seen.append((self(batch["clip"]).cpu(), batch["label"].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log each network's loss and accuracy over the validation videos."""
        labels = torch.cat([part[1] for part in self._seen]).numpy()
        logits = torch.cat([part[0] for part in self._seen], dim=1).numpy()
        self._seen.clear()
        for name, scores in zip(self.networks, logits, strict=True):
            found = classification_metrics(scores, labels)
            self.log_dict({f"{name}/val/{key}": float(found[key]) for key in ("loss", "top1", "top5")})

    def configure_optimizers(self) -> Any:
        """One optimiser for all: AdamW and SGD treat every weight by itself."""
        return make_optimizer(self, self.optimizer_config)
