"""Configurations from several files, and the table's own: every row has the same budget."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from rstg.cli.options import Parser, add_run_options, load_config
from rstg.training.table import ROWS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def write(path: Path, value: object) -> Path:
    path.write_text(yaml.safe_dump(value))
    return path


def test_later_files_win_then_networks_then_exceptions_then_overrides(tmp_path):
    row = write(
        tmp_path / "row.yaml",
        {
            "model": {"name": "syncmnist_mean_lstm", "options": {"dim": 4, "readout": "last"}},
            "exceptions": {"optimizer": {"lr": 0.5, "betas": [0.1, 0.2]}},
        },
    )
    scale = write(
        tmp_path / "scale.yaml",
        {
            "networks": {"syncmnist": {"graph": {"dim": 5}}, "syncmnist_mean_lstm": {"dim": 6}},
            "optimizer": {"lr": 0.1, "steps": 7, "batch_size": 3},
            "seed": 1,
        },
    )
    config = load_config([row, scale], ["optimizer.batch_size=9"])
    assert config.model.options == {"dim": 6, "readout": "last"} and config.seed == 1
    assert (config.optimizer.lr, config.optimizer.steps, config.optimizer.batch_size) == (0.5, 7, 9)
    assert tuple(config.optimizer.betas) == (0.1, 0.2)
    assert load_config([scale, row]).model.options["dim"] == 6
    # An override that changes the network takes that network's sizes.
    graph = load_config(scale, ["model.name=syncmnist"])
    assert graph.model.options == {"graph": {"dim": 5}}


def test_what_is_given_stands_for_the_usual_configuration():
    parser = Parser(prog="rstg")
    add_run_options(parser, "usual.yaml")
    assert parser.parse_args(["seed=1"]).config == ["usual.yaml"]
    assert parser.parse_args(["--config", "usual.yaml", "--config", "b.yaml"]).config == ["usual.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"networks": {"syncmnst": {}}}, "did you mean 'syncmnist'"),
        ({"networks": {"syncmnist": 3}}, "not names with values"),
        ({"networks": ["syncmnist"]}, "not names of networks"),
        ({"exceptions": {"optimiser": {"lr": 1}}}, "did you mean 'optimizer'"),
        ({"exception": {}}, "did you mean 'exceptions'"),
        ({"seed": {"a": 1}}, "seed"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(value, told, tmp_path):
    path = write(tmp_path / "wrong.yaml", value)
    with pytest.raises(ValueError, match=told) as raised:
        load_config([CONFIGS / "syncmnist3" / "demo.yaml", path])
    if "did you mean" in told:
        assert str(path) in str(raised.value)


def test_a_change_inside_a_value_is_refused():
    with pytest.raises(ValueError, match="seed holds 1"):
        load_config(CONFIGS / "syncmnist3" / "demo.yaml", ["seed.a=1"])


@pytest.mark.parametrize(("digits", "scale"), list(itertools.product((3, 5), ("cpu", "paper"))))
def test_every_row_of_the_table_has_the_scale_s_budget(digits, scale):
    folder = CONFIGS / f"syncmnist{digits}"
    overlay = folder / "scale" / f"{scale}.yaml"
    budget = yaml.safe_load(overlay.read_text())
    rows = [folder / f"{name}.yaml" for name in ROWS]
    # Further rows are in folders of their own.
    rows += [path for path in folder.rglob("*/*.yaml") if path.parent.name != "scale"]
    shared = {}
    for path in rows:
        stated = yaml.safe_load(path.read_text())
        # A row says what it is; what it has otherwise than the others stands under `exceptions`.
        assert set(stated) <= {"model", "exceptions"}, path
        config = load_config([path, overlay]).as_dict()
        if "exceptions" in stated:
            continue
        shared[path.stem] = {key: value for key, value in config.items() if key != "model"}
        for option, value in budget["model"]["options"].items():
            assert config["model"]["options"][option] == value, path
        sizes = budget["networks"][config["model"]["name"]]
        found = config["model"]["options"]
        assert all(found[key] == value for key, value in sizes.items() if key != "graph"), path
        assert all(found["graph"][key] == value for key, value in sizes.get("graph", {}).items()), path
    assert all(value == next(iter(shared.values())) for value in shared.values())
    assert next(iter(shared.values()))["data"]["scene"]["digits"] == digits
