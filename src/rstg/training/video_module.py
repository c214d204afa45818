"""What Lightning trains on real videos: a network on clips, validated on views averaged by video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from rstg.data.annotations import VideoList
from rstg.data.view_average import ViewAverage
from rstg.metrics import classification_metrics
from rstg.training.fitting import resolve_device
from rstg.training.modules import log_step, make_optimizer
from rstg.training.processes import gathered, sync_statistics
from rstg.training.video_config import VideoConfig
from rstg.training.video_data import Batch


def weight_groups(model: nn.Module, config: VideoConfig, new: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The weights to be trained, in groups by rate and weight decay; `new` are parts of the backbone, too, that do not
    come from model.weights."""
    parts = tuple(f"{part}." for part in new)
    how = config.optimizer
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            rate = how.lr * (how.backbone_lr if name.startswith("backbone.") and not name.startswith(parts) else 1.0)
            decay = how.weight_decay if how.decay_norms or weight.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


class VideoClassifier(LightningModule):
    """A network from clips (B, C, T, H, W) to logits (B, K), trained with cross-entropy.

    Args:
        model: The network. config: The run, counted in steps.
        val: The validation videos, whose labels are known. new: As in weight_groups.
    """

    def __init__(self, model: nn.Module, config: VideoConfig, val: VideoList, new: Sequence[str] = ()) -> None:
        super().__init__()
        self.model, self.config, self._classes, self._new = model, config, len(val.classes), new
        if resolve_device(config.device) == "cpu":
            # oneDNN's own order: a third faster, and the same sums.
            self.model.to(memory_format=torch.channels_last_3d)
        self._labels = np.array([entry.label for entry in val.entries], np.int64)
        self._average = self._new_average()
        sync_statistics(self)

    def _new_average(self) -> ViewAverage:
        data = self.config.data
        return ViewAverage(len(self._labels), len(data.scheme(data.val_views).views), self._classes, data.over)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits of clips (B, T, C, H, W), as the data side gives them."""
        return self.model(clip.transpose(1, 2))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw what is drawn in the network by the batch's number: a resumed run draws the same."""
        place = [self.config.seed, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of a batch."""
        logits = self(batch["clip"]).float()
        loss = functional.cross_entropy(logits, batch["label"], label_smoothing=self.config.optimizer.label_smoothing)
        accuracy = (logits.detach().argmax(1) == batch["label"]).float().mean()
        log_step(self, loss, accuracy)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin anew, also where a validation was cut off."""
        self._average = self._new_average()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of a batch of views."""
        self._average.add(batch["video"], batch["view"], self(batch["clip"]).float())

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy over the validation videos, of all processes."""
        found = classification_metrics(scores_of(merged(self._average)).numpy(), self._labels)
        self.log_dict({f"val/{name}": float(found[name]) for name in ("loss", "top1", "top5")})

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the configuration."""
        return make_optimizer(self.model, self.config.optimizer, weight_groups(self.model, self.config, self._new))


def merged(average: ViewAverage) -> ViewAverage:
    """The average of all processes' views, each of which counts once."""
    first, *others = gathered(average)
    for other in others:
        first.merge(other)
    return first


def scores_of(average: ViewAverage) -> Tensor:
    """Logits by video; of averaged probabilities their logarithm, whose softmax they are."""
    found = average.result()
    return found if average.over == "logits" else found.clamp_min(torch.finfo(found.dtype).tiny).log()
