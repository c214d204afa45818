"""What Lightning trains: the whole network on clips, or its CNN on single frames."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from rstg.data import SyncMNIST, render
from rstg.metrics import classification_metrics
from rstg.training.config import OptimizerConfig
from rstg.training.data import Batch, SceneBatches
from rstg.training.processes import gathered, mean_of_all, sync_statistics

# A cell is a digit's if the digit covers more than this share of it.
_COVERED = 0.1


def make_optimizer(
    module: nn.Module, config: OptimizerConfig, groups: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Optimiser and schedule, in Lightning's form.

    Args:
        groups: Weights with options of their own, as torch.optim takes them; if not given, all that are to be trained.
    """
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    weights: Any = groups if groups is not None else trained
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(weights, config.lr, config.betas, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            weights, config.lr, config.betas[0], weight_decay=config.weight_decay, nesterov=config.betas[0] > 0
        )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def log_step(module: LightningModule, loss: Tensor, accuracy: Tensor) -> None:
    """Log what a training step gave, the mean over all processes."""
    figures = {"train/loss": loss.detach(), "train/top1": accuracy}
    module.log_dict(figures, on_step=True, on_epoch=False, sync_dist=True)


class ClipClassifier(LightningModule):
    """A network from clips (B, C, T, H, W) to logits (B, K), trained with cross-entropy.

    Args:
        model: The network. optimizer: How it is trained.
        freeze_cnn: Leave `model.cnn` as it is, batch statistics included.
    """

    def __init__(self, model: nn.Module, optimizer: OptimizerConfig, freeze_cnn: bool = False) -> None:
        super().__init__()
        self.model, self.optimizer_config, self.freeze_cnn = model, optimizer, freeze_cnn
        if freeze_cnn:
            self._cnn.requires_grad_(False)
        self._seen: list[tuple[Tensor, Tensor]] = []
        sync_statistics(self)
        # Lightning trains a module in the mode that it finds it in.
        self.train()

    @property
    def _cnn(self) -> nn.Module:
        cnn = getattr(self.model, "cnn", None)
        if not isinstance(cnn, nn.Module):
            raise ValueError(f"{type(self.model).__name__} has no `cnn` to freeze")
        return cnn

    def train(self, mode: bool = True) -> ClipClassifier:
        """Set training mode; a frozen CNN stays in eval mode."""
        super().train(mode)
        if self.freeze_cnn:
            self._cnn.eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """Logits of clips (B, T, C, H, W), as the data side gives them."""
        return self.model(clip.transpose(1, 2))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Mean cross-entropy of a batch."""
        logits = self(batch["clip"]).float()
        loss = functional.cross_entropy(logits, batch["label"])
        accuracy = (logits.detach().argmax(1) == batch["label"]).float().mean()
        log_step(self, loss, accuracy)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Keep the logits of a batch."""
        self._seen.append((self(batch["clip"]).float().cpu(), batch["label"].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy over the validation videos."""
        parts = [part for seen in gathered(self._seen) for part in seen]
        self._seen = []
        logits, labels = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        found = classification_metrics(logits, labels)
        self.log_dict({f"val/{name}": float(found[name]) for name in ("loss", "top1", "top5")})

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the configuration."""
        return make_optimizer(self, self.optimizer_config)


class FrameTask(LightningModule):
    """The CNN's pre-training on single frames.

    Args:
        cnn: FrameCNN of the network. videos: Training scenes of one frame.
        task: "digit": which digit is it (the paper's; a linear classifier on the mean over the map, thrown
            away afterwards). "where": how much of each cell each digit covers.
    """

    def __init__(self, cnn: Any, videos: SyncMNIST, task: str, optimizer: OptimizerConfig) -> None:
        super().__init__()
        if task == "where" and (cnn.head is None or cnn.out_channels != 10):
            raise ValueError("pre-training on 'where' needs a CNN with class_maps=10, a map for each digit")
        self.cnn, self.videos, self.task, self.optimizer_config = cnn, videos, task, optimizer
        self.classifier = nn.Linear(cnn.out_channels, 10) if task == "digit" else None
        sync_statistics(self)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Cross-entropy of a batch of frames."""
        loss, accuracy = self._digit(batch) if self.classifier is not None else self._where(batch)
        log_step(self, loss, accuracy)
        return loss

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of frames from the trainer's step on."""
        how = self.optimizer_config
        return DataLoader(
            SceneBatches(self.videos, how.batch_size, self.trainer.global_step, how.steps), batch_size=None
        )

    def _digit(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert self.classifier is not None
        one = {**batch, "digit_index": batch["digit_index"][:, :1], "coords": batch["coords"][:, :, :1]}
        logits = self.classifier(self.cnn(self.videos.clips(one)[:, 0]).mean((2, 3))).float()
        target = batch["classes"][:, 0]
        return functional.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean()

    def _where(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self.cnn.class_logits(self.videos.clips(batch)[:, 0]).float()
        target = coverage(self.videos, batch, logits.shape[-2], logits.shape[-1])
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
        most, which = target.max(1)
        told = most > _COVERED
        # Processes have different numbers of such cells: the mean of these quotients is the quotient over all.
        return loss, ((logits.argmax(1) == which) & told).sum() / mean_of_all(told.sum().float())

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the configuration."""
        return make_optimizer(self, self.optimizer_config)


def coverage(videos: SyncMNIST, scene: Batch, height: int, width: int) -> Float[Tensor, "f 10 h w"]:
    """How much of each cell of a frame's map each digit covers, 0 to 1.

    Each digit is rendered by itself, so that what another one hides counts as well: the place of a digit that
    is half covered does not jump.
    """
    coords, classes, config = scene["coords"], scene["classes"], videos.scenes.config
    alone = render(
        videos.digit_images(scene).flatten(0, 1).unsqueeze(1),
        coords[:, 0].reshape(-1, 1, 1, 2),
        canvas=config.canvas,
        size=config.size,
    )
    ink = functional.adaptive_avg_pool2d(alone[:, 0, 0].float() / 255, (height, width)).unflatten(0, classes.shape)
    target = ink.new_zeros(len(classes), 10, height, width)
    return target.scatter_(1, classes[..., None, None].expand_as(ink), ink)
