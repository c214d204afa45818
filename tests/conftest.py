"""Shared fixtures. The graph's tensor shapes are checked at run time in every test."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(["rstg.graph", "rstg.models"], "beartype.beartype")

REPO = Path(__file__).resolve().parent.parent


class Oracle:
    """Outputs of the authors' code, with the loader that regenerates weights and inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("golden", folder / "golden.py")
        assert spec is not None and spec.loader is not None
        self.golden: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.golden)

    def path(self, name: str) -> Path:
        return self.folder / name

    def case(self, name: str) -> tuple[dict[str, Any], dict[str, Any], torch.Tensor]:
        """Return the case, its variables {TF name: array}, and its input in (B, C, T, H, W)."""
        case = self.golden.load(str(self.path(name)))
        self.golden.check_weights(case)
        weights = self.golden.weights(case, str(self.path("fixtures.npz")))
        x = torch.from_numpy(self.golden.inputs(case)).permute(0, 4, 1, 2, 3)
        return case, weights, x


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    folder = Path(os.environ.get("RSTG_ORACLE", REPO.parent / "shared" / "oracle"))
    if not (folder / "golden.py").is_file():
        pytest.skip(f"outputs of the authors' code are not at {folder} (set RSTG_ORACLE)")
    return Oracle(folder)


@pytest.fixture
def predefined_file(tmp_path: Path) -> Callable[..., Path]:
    """Write drawn scenes (one for each of their digits) as the authors write theirs."""

    def write(scenes: Any, name: str = "scenes.pkl", **changed: np.ndarray) -> Path:
        scene = scenes.batch(np.arange(len(scenes)))
        table = {
            "digit_position": 1 - scene["behind"].astype(np.uint8)[None],
            "coords_digits": scene["coords"][None],
            "ind_digits": scene["digit_index"].astype(np.uint32)[None],
            "set_digits": scene["classes"].astype(np.uint8)[None, :, 1:],
            "sincron_prob": (scene["label"] != 45).astype(np.uint8)[None],
        }
        if "noise_index" in scene:
            table["noise_coords"] = scene["noise_coords"][None]
            table["ind_rand_part"] = scene["noise_index"].astype(np.uint32)[None]
        path = tmp_path / name
        path.write_bytes(pickle.dumps({**table, **changed}))
        return path

    return write


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
