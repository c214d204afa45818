"""What fits and evaluates a network, on Lightning."""

from rstg.training.config import DataConfig, ModelConfig, OptimizerConfig, PretrainConfig, TrainConfig

__all__ = ["DataConfig", "ModelConfig", "OptimizerConfig", "PretrainConfig", "TrainConfig"]
