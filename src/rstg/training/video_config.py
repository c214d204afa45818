"""What a training run on real videos is made of; configs/something_v1 and others hold one YAML an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rstg.data.folders import FORMATS
from rstg.data.sampling import SAMPLINGS, VIEWS, ViewScheme, view_scheme
from rstg.data.transforms import TrainTransform
from rstg.data.video import DECODERS
from rstg.errors import check_choice, check_whole
from rstg.training.config import OptimizerConfig, RunConfig

OVER: tuple[str, ...] = ("logits", "probabilities")


@dataclass
class VideoModelConfig:
    """The network, and the weights it starts from.

    Args:
        name: One of rstg.list_models() that takes videos of three channels.
        options: Keyword arguments of the network; num_classes is the dataset's if it is not given.
        weights: Folder of a model, as rstg import and rstg train write it; null starts from random weights. Graphs
            and non-local blocks that it does not have begin as they are built: as no change.
        classifier: "new", or "keep" the one of `weights`, which then has the same number of classes.
    """

    name: str = "rstg_i3d_r50_res34"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    classifier: str = "new"

    def __post_init__(self) -> None:
        check_choice("model.classifier", self.classifier, ("new", "keep"))
        if self.classifier == "keep" and self.weights is None:
            raise ValueError("model.classifier='keep' needs model.weights")


@dataclass
class VideoDataConfig:
    """The videos, and what clips are made of them; docs/video.md tells of formats, samplings and views.

    Args:
        train, val, test: Annotations: a folder class/video, a CSV or JSON of Something-Something, a list file.
        root: Folder of the videos. format: As read_videos takes it. classes: File of the classes' names, where the
            annotations do not lead to it.
        skip: Files with ids of videos to leave out, as rstg data check --skip writes them.
        frames, sampling, stride: Of a clip, as in VideoDataset.
        short_side: To which frames are resized; with `square` both sides are, so that crops show all of a wide frame.
        size: Side of the crops to train on.
        brightness, flip: As in TrainTransform. flip_swaps: As in flip_labels.
        extra: Transforms of torchvision.transforms.v2 that follow, each {name: {option: value}}.
        val_views, test_views: Views of a video that validation and rstg test average: "1", "authors", "3x1", "3x10".
        over: What of the views is averaged: "logits" or "probabilities".
        eval_batch_size: Views of a batch outside training.
        workers: Processes that decode; null is as many as cores, or half of them where the network runs on a CPU.
        seconds: Deadline of a video, whose decoder is then a process beside; null for none.
        decoder: "pyav" or "torchcodec", which gives the same frames.
    """

    train: str | None = None
    val: str | None = None
    test: str | None = None
    root: str | None = None
    format: str = "auto"
    classes: str | None = None
    skip: list[str] = field(default_factory=list)
    frames: int = 32
    sampling: str = "uniform"
    stride: int = 2
    short_side: int = 256
    square: bool = False
    size: int = 224
    brightness: float = 0.1
    flip: float = 0.0
    flip_swaps: dict[str, str] = field(default_factory=dict)
    extra: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    val_views: str = "1"
    test_views: str = "authors"
    over: str = "logits"
    eval_batch_size: int = 8
    workers: int | None = None
    seconds: float | None = None
    decoder: str = "pyav"

    def __post_init__(self) -> None:
        check_choice("data.format", self.format, ("auto", *FORMATS))
        check_choice("data.decoder", self.decoder, DECODERS)
        check_choice("data.sampling", self.sampling, SAMPLINGS)
        check_choice("data.val_views", self.val_views, VIEWS)
        check_choice("data.test_views", self.test_views, VIEWS)
        check_choice("data.over", self.over, OVER)
        for name in ("frames", "stride", "short_side", "size", "eval_batch_size"):
            check_whole(f"data.{name}", getattr(self, name))
        if self.workers is not None:
            check_whole("data.workers", self.workers, least=0)
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"data.seconds={self.seconds} must be positive")
        if self.frames < 2:
            raise ValueError("data.frames=1: the networks pool over pairs of frames")
        # Its own checks of sizes, brightness and flips; classes are not known yet.
        TrainTransform(self.short_side, self.size, self.brightness, self.flip, [])

    def scheme(self, views: str) -> ViewScheme:
        """The views of this name, of clips like those of training."""
        return view_scheme(views, self.frames, self.size, self.short_side, self.sampling, self.stride, self.square)


@dataclass
class VideoOptimizerConfig(OptimizerConfig):
    """How weights are changed.

    Args:
        steps, batch_size, optimizer, lr, betas, weight_decay, warmup_steps, clip_norm: As in OptimizerConfig. A
            batch is what one step sees, over all processes and parts.
        schedule: "constant", "linear", "cosine", or "steps": down to a tenth (`gamma`) at each milestone.
        epochs: In place of `steps`: how often every video is seen; null to count in steps.
        accumulate: Parts into which each process cuts its share of a batch, one after the other in memory.
        milestones: Shares of the training, between 0 and 1, at which the rate falls. gamma: By which factor.
        final: The rate at the end of "linear" and "cosine", as a share of `lr`.
        label_smoothing: Share of the target that is spread over all classes.
        decay_norms: Whether weight decay holds for biases and for gains of norms, too.
        backbone_lr: Rate of the backbone as a share of `lr`: what comes from `model.weights` moves less than what
            is new.
    """

    batch_size: int = 8
    weight_decay: float = 0.0
    schedule: str = "cosine"
    epochs: float | None = None
    accumulate: int = 1
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    final: float = 0.0
    label_smoothing: float = 0.0
    decay_norms: bool = True
    backbone_lr: float = 1.0
    schedules: ClassVar[tuple[str, ...]] = ("constant", "linear", "cosine", "steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("optimizer.accumulate", self.accumulate)
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"optimizer.batch_size={self.batch_size} cannot be cut into accumulate={self.accumulate} equal parts"
            )
        if self.epochs is not None and not self.epochs > 0:
            raise ValueError(f"optimizer.epochs={self.epochs} must be positive")
        if not all(0 < share < 1 for share in self.milestones) or sorted(self.milestones) != list(self.milestones):
            raise ValueError(
                f"optimizer.milestones={list(self.milestones)} are shares of the training: between 0 and 1, in order"
            )
        if bool(self.milestones) != (self.schedule == "steps"):
            raise ValueError("optimizer.milestones and schedule='steps' go together")
        for name in ("gamma", "final", "backbone_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} is from 0 to 1")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"optimizer.label_smoothing={self.label_smoothing} is from 0 to below 1")

    def _after_warmup(self, done: float) -> float:
        if self.schedule == "steps":
            return self.gamma ** sum(done >= share for share in self.milestones)
        if self.schedule == "constant":
            return 1.0
        left = (1 + math.cos(math.pi * min(1.0, done))) / 2 if self.schedule == "cosine" else max(0.0, 1 - done)
        return self.final + (1 - self.final) * left

    def for_videos(self, videos: int) -> VideoOptimizerConfig:
        """The same, counted in steps over a training set of so many videos."""
        if self.epochs is None:
            return self
        return replace(self, steps=max(1, round(self.epochs * videos / self.batch_size)), epochs=None)


@dataclass
class VideoConfig(RunConfig):
    """A training run on real videos.

    Args:
        task: "video", which tells this kind of run from one on SyncMNIST.
        model: The network. data: The videos. optimizer: How the network is trained.
        checkpoint_every: Steps between checkpoints to resume from, besides those of validations.
        seed, precision, device, validate_every: As in RunConfig.
    """

    task: str = "video"
    model: VideoModelConfig = field(default_factory=VideoModelConfig)
    data: VideoDataConfig = field(default_factory=VideoDataConfig)
    optimizer: VideoOptimizerConfig = field(default_factory=VideoOptimizerConfig)
    checkpoint_every: int = 500
    validate_every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, ("video",))
        check_whole("checkpoint_every", self.checkpoint_every)
