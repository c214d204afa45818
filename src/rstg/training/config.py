"""What a training run is made of: typed, with a default for everything; configs/ holds one YAML an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from rstg.data.digits import OFFLINE
from rstg.data.scenes import SceneConfig
from rstg.errors import check_choice, check_whole

PRECISIONS: tuple[str, ...] = ("auto", "float32", "bf16")
SCHEDULES: tuple[str, ...] = ("constant", "linear")
OPTIMIZERS: tuple[str, ...] = ("adamw", "sgd")
TASKS: tuple[str, ...] = ("digit", "where")


@dataclass
class ModelConfig:
    """The network.

    Args:
        name: One of rstg.list_models().
        options: Keyword arguments of the network; options of its CNN and graph are nested.
    """

    name: str = "syncmnist"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """The videos. Training videos are drawn afresh; none is seen twice.

    Args:
        source: "mnist-5k", the digits that come with the package, or a folder with MNIST's IDX files.
        download: Fetch MNIST into the folder if it is not there.
        scene: What a video is made of.
        warp: Warp the training digits (rotation, scale, shear, elastic), each time they are drawn anew.
        predefined_train, predefined_test: The authors' files of scenes, to use instead of drawn ones.
        val_videos, test_videos: How many to validate and test on.
        eval_batch_size: Videos of a batch outside training.
    """

    source: str = OFFLINE
    download: bool = False
    scene: SceneConfig = field(default_factory=SceneConfig)
    warp: bool = False
    predefined_train: str | None = None
    predefined_test: str | None = None
    val_videos: int = 1000
    test_videos: int = 10000
    eval_batch_size: int = 100

    def __post_init__(self) -> None:
        for name in ("val_videos", "test_videos", "eval_batch_size"):
            check_whole(f"data.{name}", getattr(self, name))


def check_seed(name: str, seed: int) -> None:
    """Raise ValueError unless it is a whole number that every generator takes."""
    check_whole(name, seed, least=0)
    if seed >= 2**32:
        raise ValueError(f"{name}={seed} must be less than 2**32")


@dataclass
class OptimizerConfig:
    """How weights are changed.

    Args:
        steps: Number of batches.
        batch_size: Videos (frames in pre-training) of a batch; the loss is their mean.
        optimizer: "adamw", or "sgd" with Nesterov momentum (the paper's).
        lr: Learning rate after warm-up.
        betas: AdamW's; SGD's momentum is the first.
        weight_decay: Decoupled with AdamW.
        warmup_steps: Steps over which the rate grows from zero.
        schedule: "constant", or "linear" down to zero at the last step.
        clip_norm: Largest norm of the gradient; 0 clips nothing.
    """

    steps: int = 2000
    batch_size: int = 32
    optimizer: str = "adamw"
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup_steps: int = 200
    schedule: str = "linear"
    clip_norm: float = 1.0
    schedules: ClassVar[tuple[str, ...]] = SCHEDULES

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, self.schedules)
        check_whole("steps", self.steps)
        check_whole("batch_size", self.batch_size)
        check_whole("warmup_steps", self.warmup_steps, least=0)
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr} must be positive")
        if not (self.weight_decay >= 0 and self.clip_norm >= 0):
            raise ValueError(f"weight_decay={self.weight_decay} and clip_norm={self.clip_norm} must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={tuple(self.betas)} must be 0 or more, and less than 1")

    def rate(self, step: int) -> float:
        """The learning rate of a step, as a share of `lr`."""
        return min(1.0, (step + 1) / max(1, self.warmup_steps)) * self._after_warmup(step / self.steps)

    def _after_warmup(self, done: float) -> float:
        """The schedule's share when so much of the training, 0 to 1, is done."""
        return max(0.0, 1 - done) if self.schedule == "linear" else 1.0


@dataclass
class PretrainConfig:
    """Pre-training of the CNN on single frames.

    Args:
        task: "digit" as in the paper: which digit is it, one digit randomly placed in a frame. "where": how
            much of each cell of the CNN's map each digit covers, what other digits hide included (needs a
            CNN with class_maps=10).
        optimizer: How.
        freeze: Leave the CNN as it is afterwards, batch statistics included.
        seed: Of the CNN's first weights and of its frames; null is the run's. With one of its own, runs of several
            seeds share the CNN.

    Source: paper, section 4.1, for "digit"; "where" is not in the paper.
    """

    task: str = "digit"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    freeze: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        check_choice("task", self.task, TASKS)
        if self.seed is not None:
            check_seed("pretrain.seed", self.seed)


@dataclass
class RunConfig:
    """What every training run has.

    Args:
        seed: Fixes weights, videos and order.
        precision: "auto" is bf16 where the device computes in it fast, float32 elsewhere.
        device: "auto", "cpu" or "cuda".
        validate_every: Steps between validations; each leaves a checkpoint.
    """

    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    validate_every: int = 250

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_whole("validate_every", self.validate_every)
        check_seed("seed", self.seed)

    def as_dict(self) -> dict[str, Any]:
        """The run as plain values, as in its YAML."""
        return _plain(asdict(self))


@dataclass
class TrainConfig(RunConfig):
    """A training run on SyncMNIST.

    Args:
        model: The network.
        data: The videos.
        pretrain: Pre-training of its CNN; null for none.
        optimizer: How the network is trained.
        seed, precision, device, validate_every: As in RunConfig.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pretrain: PretrainConfig | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
