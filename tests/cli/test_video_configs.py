"""Every configuration of real videos loads, and its network is there; the authors' recipe is what their code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rstg.cli.runs import load_run
from rstg.data.sampling import VIEWS
from rstg.models.zoo import MODELS
from rstg.training.video_config import VideoConfig
from rstg.training.video_data import train_transform

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SOMETHING = [CONFIGS / f"something_v{version}" for version in (1, 2)]
ROWS = ("c2d", "i3d", "nl_i3d", "rstg_c2d", "rstg_res2", "rstg_res3", "rstg_res34", "rstg_res4", "rstg_vec")
KINETICS = {"c2d": "models/kinetics_c2d", "i3d": "models/kinetics_i3d"}


def run_of(*files: Path) -> VideoConfig:
    found = load_run(files)
    assert isinstance(found, VideoConfig)
    return found


@pytest.mark.parametrize("folder", SOMETHING, ids=lambda folder: folder.name)
def test_every_row_of_the_paper_has_one(folder):
    assert tuple(sorted(path.stem for path in folder.glob("*.yaml"))) == ROWS
    named = {yaml.safe_load(path.read_text())["model"]["name"] for path in folder.glob("*.yaml")}
    rows = {name for name, entry in MODELS.items() if entry.paper.startswith("Something-Something")}
    assert named == rows
    for row in ROWS:
        text = (folder / f"{row}.yaml").read_text()
        stated = yaml.safe_load(text)
        # A row says which network it is and where that begins; all else is the recipe's.
        assert set(stated) == {"task", "model"} and set(stated["model"]) == {"name", "weights"}
        if folder.name.endswith("v1"):
            assert MODELS[stated["model"]["name"]].paper.rpartition(": ")[2] in text
        if row != "nl_i3d":
            temporal = MODELS[stated["model"]["name"]].fixed["temporal"]
            assert stated["model"]["weights"] == KINETICS[temporal]


# Names and types of each file; the networks are built once, by the recipe that is checked below.
@pytest.mark.parametrize("recipe", ["authors", "modern"])
@pytest.mark.parametrize("folder", SOMETHING, ids=lambda folder: folder.name)
def test_every_row_loads_with_every_recipe(folder, recipe, monkeypatch):
    built: list[str] = []
    monkeypatch.setattr("rstg.cli.runs.create_model", lambda name, **options: built.append(name))
    shared = []
    for row in ROWS:
        config = run_of(folder / f"{row}.yaml", folder / "recipe" / f"{recipe}.yaml").as_dict()
        shared.append({key: value for key, value in config.items() if key != "model"})
        assert config["model"]["options"]["frozen_stats"] is True
    assert all(other == shared[0] for other in shared) and len(set(built)) == len(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_network_of_a_row_fits_its_options(row):
    run_of(SOMETHING[0] / f"{row}.yaml", SOMETHING[0] / "recipe" / "authors.yaml")


@pytest.mark.parametrize("folder", SOMETHING, ids=lambda folder: folder.name)
def test_the_authors_recipe_is_what_their_code_does(folder):
    config = run_of(folder / "c2d.yaml", folder / "recipe" / "authors.yaml")
    how, data = config.optimizer, config.data
    # Their rate of 0.0001 is that of a sum over the batch.
    assert how.lr == pytest.approx(1e-4 * how.batch_size) and how.batch_size // how.accumulate == 2
    assert (how.optimizer, how.betas[0], how.weight_decay, how.clip_norm, how.label_smoothing) == ("sgd", 0.9, 0, 0, 0)
    assert {how.rate(step) for step in (0, 1, how.steps - 1)} == {1.0}
    assert config.model.options == {"dropout": 0.3, "frozen_stats": True}
    assert data.scheme("authors") == VIEWS["authors"] and data.scheme(data.val_views) == VIEWS["1"]
    transform = train_transform(data, ("a", "b"))
    assert (transform.short_side, transform.size, transform.brightness, transform.flip) == (256, 224, 0.1, 0.0)


@pytest.mark.parametrize("folder", SOMETHING, ids=lambda folder: folder.name)
def test_the_modern_recipe_s_transforms_are_there(folder):
    config = run_of(folder / "c2d.yaml", folder / "recipe" / "modern.yaml")
    assert train_transform(config.data, ("Left", "Right")).flipped == [1, 0]
    assert config.optimizer.rate(0) < 0.01 and config.optimizer.rate(config.optimizer.warmup_steps) > 0


def test_the_networks_on_toy_videos_differ_in_the_graph_alone():
    plain, graph = (run_of(CONFIGS / "toy_something" / f"{name}.yaml").as_dict() for name in ("c2d", "rstg_c2d"))
    names = plain["model"].pop("name"), graph["model"].pop("name")
    assert names == ("c2d_r18", "rstg_c2d_r18") and graph["model"]["options"].pop("graph")
    assert plain == graph
