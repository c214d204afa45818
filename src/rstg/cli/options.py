"""Typed options: YAML and command line into a TrainConfig, with the nearest name for a wrong one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from rstg.errors import nearest
from rstg.models import create_model
from rstg.training.config import PretrainConfig, TrainConfig


class Parser(ArgumentParser):
    """jsonargparse's parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise ValueError with the message."""
        known = [name.lstrip("-") for action in self._actions for name in action.option_strings or [action.dest]]
        missed = re.search(r"(?:unrecognized arguments: --|key ')([\w.\-]+)", message, re.IGNORECASE)
        raise ValueError(" ".join(message.split()) + (nearest(missed[1], known) if missed else ""))


def default_config(name: str) -> str:
    """Path of a configuration that comes with the package, or lies in the checkout that it runs from."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs" / name
    return str(installed if installed.is_file() else package.parents[1] / "configs" / name)


def add_run_options(parser: Parser, config: str | None = None) -> None:
    """Add --config (required where there is no default) and overrides, as load_config takes them."""
    parser.add_argument(
        "--config", type=str, default=config, required=config is None, help="YAML of the run, as in configs/"
    )
    parser.add_argument("overrides", nargs="*", help="changes to it: optimizer.lr=0.001 data.scene.digits=5")


def _check_names(given: Any, cls: type, where: str) -> None:
    """Refuse keys that the dataclass lacks, at any depth, by name and with the nearest one."""
    if not isinstance(given, dict):
        raise ValueError(f"{where or 'the configuration'} holds {given!r}, not names with values")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key, value in given.items():
        if key not in fields:
            raise ValueError(f"there is no option {where}{key}{nearest(str(key), fields)}. Valid: {', '.join(fields)}")
        default = fields[key].default_factory
        inner = PretrainConfig if key == "pretrain" else default
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and value is not None:
            _check_names(value, inner, f"{where}{key}.")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a run's YAML and apply overrides "a.b=value"; types, names and the network's options are checked.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what is not YAML, an unknown name (with the nearest), a wrong type or value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration {path}")
    try:
        found = yaml.safe_load(path.read_text()) or {}
        for change in overrides:
            name, equals, value = change.partition("=")
            if not equals:
                raise ValueError(f"{change!r} is not a change of the form name=value")
            place = found
            *parents, last = name.split(".")
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return config_from_dict(found)


def config_from_dict(found: dict[str, Any]) -> TrainConfig:
    """A TrainConfig from plain values, checked as load_config says."""
    _check_names(found, TrainConfig, "")
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig, "run")
    parsed: Namespace = parser.parse_object({"run": found})
    config: TrainConfig = parser.instantiate(parsed).run
    create_model(config.model.name, **config.model.options)
    return config
