"""Typed options: YAML and command line into a TrainConfig, with the nearest name for a wrong one."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from rstg.errors import check_choice, nearest

# torch comes along with these: a command's help does without.
if TYPE_CHECKING:
    from rstg.training.config import TrainConfig

# Names of a configuration file besides those of TrainConfig; see load_config.
NETWORKS, EXCEPTIONS = "networks", "exceptions"


class Parser(ArgumentParser):
    """jsonargparse's parser whose errors are one line."""

    # Not the option's default, which jsonargparse would put before what is given.
    usual_config: str | None = None

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise ValueError with the message."""
        known = [name.lstrip("-") for action in self._actions for name in action.option_strings or [action.dest]]
        missed = re.search(r"(?:unrecognized arguments: --|key ')([\w.\-]+)", message, re.IGNORECASE)
        stray = re.search(r"unrecognized arguments: [^-\s]\S*=", message, re.IGNORECASE)
        told = "; changes name=value stand side by side, not on both sides of an option" if stray else ""
        raise ValueError(" ".join(message.split()) + (nearest(missed[1], known) if missed else told))

    def parse_args(self, *given: Any, **more: Any) -> Namespace:  # type: ignore[override]
        """Parse; where no configuration is given, the usual one stands."""
        options: Namespace = super().parse_args(*given, **more)
        if self.usual_config is not None and options.config is None:
            options.config = [self.usual_config]
        return options


class _Repeated(argparse.Action):
    """Collects the values of an option that may be given several times."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest, None) or []), values])


def configs_folder() -> Path:
    """The configurations that come with the package, or lie in the checkout that it runs from."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


def default_config(name: str) -> str:
    """Path of one of these configurations."""
    return str(configs_folder() / name)


def add_run_options(parser: Parser, config: str | None = None) -> None:
    """Add --config (required where there is no usual one) and overrides, as load_config takes them."""
    parser.usual_config = config
    usual = "" if config is None else f" (usually {config})"
    parser.add_argument(
        "--config",
        action=_Repeated,
        required=config is None,
        metavar="YAML",
        help=f"the run, as in configs/{usual}; given again, a file is merged over those before it",
    )
    add_overrides(parser)


def add_overrides(parser: Parser) -> None:
    """Add changes to a configuration as positional arguments, as load_config takes them."""
    parser.add_argument(
        "overrides", nargs="*", default=[], help="changes to it: optimizer.lr=0.001 data.scene.digits=5"
    )


def check_names(given: Any, cls: type, where: str = "", extra: Sequence[str] = ()) -> None:
    """Refuse keys that the dataclass lacks, at any depth, by name and with the nearest one."""
    from rstg.training.config import PretrainConfig

    if not isinstance(given, dict):
        raise ValueError(f"{where.rstrip('.') or 'the configuration'} holds {given!r}, not names with values")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key, value in given.items():
        if key in extra:
            continue
        if key not in fields:
            known = [*fields, *extra]
            hint = nearest(str(key), known) or "."
            raise ValueError(f"there is no option {where}{key}{hint} Valid: {', '.join(known)}")
        default = fields[key].default_factory
        inner = PretrainConfig if key == "pretrain" else default
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and value is not None:
            check_names(value, inner, f"{where}{key}.")


def merge(below: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Names and values of both, at any depth; where both have a value, that of `over`."""
    merged = dict(below)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_yaml(path: Path) -> Any:
    """What a configuration file holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not YAML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration {path}")
    try:
        return yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _read(path: Path) -> dict[str, Any]:
    """One file's names and values, checked by name."""
    from rstg.models.zoo import list_models
    from rstg.training.config import TrainConfig

    found = read_yaml(path)
    try:
        extra = [NETWORKS, EXCEPTIONS]
        check_names(found, TrainConfig, extra=extra)
        check_names(found.get(EXCEPTIONS) or {}, TrainConfig, f"{EXCEPTIONS}.")
        networks = found.get(NETWORKS) or {}
        if not isinstance(networks, dict):
            raise ValueError(f"{NETWORKS} holds {networks!r}, not names of networks with their options")
        for name, options in networks.items():
            check_choice(f"{NETWORKS} names", name, list_models())
            if not isinstance(options, dict):
                raise ValueError(f"{NETWORKS}.{name} holds {options!r}, not names with values")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def override(found: dict[str, Any], changes: Sequence[str]) -> None:
    """Apply changes "a.b=value" in place.

    Raises:
        ValueError: for one of another form, or a name inside a plain value.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} is not a change of the form name=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {change!r} is not YAML: {' '.join(str(error).split())}") from error
        place = found
        *parents, last = name.split(".")
        for parent in parents:
            if place.get(parent) is None:
                place[parent] = {}
            place = place[parent]
            if not isinstance(place, dict):
                raise ValueError(f"{change!r}: {parent} holds {place!r}, which has no names in it")
        place[last] = value


def load_config(paths: str | Path | Sequence[str | Path], overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a run from YAML files and overrides "a.b=value"; types, names and the network's options are checked.

    Later files are merged over earlier ones. Two names serve a table whose rows share a scale:

    - `networks` holds {network's name: options}: the network of the run takes its own over model.options, those
      of other networks are left. So one file sizes the networks of all rows.
    - `exceptions` holds a part of a configuration that is merged over all files, whichever it stands in.

    Overrides come last.

    Raises:
        FileNotFoundError: if there is no such file, or none of predefined scenes that it names.
        ValueError: for what is not YAML, an unknown name (with the nearest), a wrong type or value.
    """
    from rstg.training.config import ModelConfig

    files = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[str, Any] = {}
    for path in files:
        found = merge(found, _read(Path(path)))
    networks, exceptions = found.pop(NETWORKS, None) or {}, found.pop(EXCEPTIONS, None) or {}
    # Which network it is may itself be an exception or an override.
    named = copy.deepcopy(merge(found, exceptions))
    override(named, overrides)
    model = named.get("model")
    name = model.get("name", ModelConfig.name) if isinstance(model, dict) else ModelConfig.name
    if name in networks:
        found = merge(found, {"model": {"options": networks[name]}})
    found = copy.deepcopy(merge(found, exceptions))
    override(found, overrides)
    config = config_from_dict(found)
    for scenes in (config.data.predefined_train, config.data.predefined_test):
        if scenes is not None and not Path(scenes).is_file():
            raise FileNotFoundError(f"there is no file of predefined scenes {scenes}")
    return config


def parse_config(found: dict[str, Any], cls: type) -> Any:
    """An object of a dataclass from plain values; ValueError for a wrong name, type or value."""
    check_names(found, cls)
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(cls, "run")
    parsed: Namespace = parser.parse_object({"run": found})
    return parser.instantiate(parsed).run


def config_from_dict(found: dict[str, Any]) -> TrainConfig:
    """A TrainConfig from plain values, checked as load_config says."""
    from rstg.data.scenes import pair_names
    from rstg.models.zoo import create_model
    from rstg.training.config import TrainConfig

    config: TrainConfig = parse_config(found, TrainConfig)
    try:
        model = create_model(config.model.name, **config.model.options)
    except TypeError as error:
        # A value of a kind that the network has no use for; what it is asked for first may be anything.
        raise ValueError(f"model.options do not fit {config.model.name!r}: {error}") from error
    given, classes = getattr(model, "num_classes", None), len(pair_names())
    if given is not None and given < classes:
        raise ValueError(f"model.options.num_classes={given}: SyncMNIST has {classes} classes")
    return config
