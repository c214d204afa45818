"""SyncMNIST's videos: scenes, drawn from a seed or read from the authors' file, and their rendered clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rstg.data.digits import Digits
from rstg.data.predefined import read_predefined
from rstg.data.render import render
from rstg.data.scenes import DIGIT, NUM_CLASSES, PATCH, SceneConfig, Scenes, pair_label
from rstg.data.warp import warp

# The centre of a digit's image, where its ink is.
_PATCH = slice((DIGIT - PATCH) // 2, (DIGIT + PATCH) // 2)


class SceneSource(Protocol):
    """What SyncMNIST renders: Scenes, or PredefinedScenes."""

    digits: Digits
    config: SceneConfig

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Scenes of many indices, as Scenes.batch gives them."""


class PredefinedScenes:
    """The authors' predefined scenes of one split, in the form of Scenes.

    Video r * M + m is repetition r of the video whose first digit is image m.

    Args:
        path: Their file (see read_predefined; nothing of it is executed).
        digits: The MNIST images that the file's indices mean: all of a split's, in MNIST's order (split
            "test", or "trainval" for the training file).
        canvas, size: As in SceneConfig.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a file of scenes, or its scenes were drawn from other images.
    """

    def __init__(self, path: str | Path, digits: Digits, canvas: int = 100, size: int = 64) -> None:
        found = read_predefined(path)
        repetitions, images, frames, count, _ = found["coords_digits"].shape
        used = [found[key] for key in ("ind_digits", "ind_rand_part") if key in found]
        if images != len(digits) or any(part.min(initial=0) < 0 or part.max(initial=0) >= images for part in used):
            raise ValueError(
                f"{path} holds scenes of {images} MNIST images and {digits.describe()} were given: "
                f"give the images that its scenes were drawn from"
            )
        videos = repetitions * images
        noise = found["ind_rand_part"].shape[-1] if "ind_rand_part" in found else 0
        self.digits = digits
        self.config = SceneConfig(count, frames, canvas, size, noise_parts=noise)
        index = found["ind_digits"].reshape(videos, count).astype(np.int64)
        classes = digits.labels[index].astype(np.int64)
        if not np.array_equal(classes[:, 1:], found["set_digits"].reshape(videos, count - 1)):
            raise ValueError(f"{path}: its classes are not those of {digits.describe()}: these are other images")
        together = found["sincron_prob"].reshape(videos) != 0
        self.table: dict[str, np.ndarray] = {
            "digit_index": index,
            "classes": classes,
            "coords": found["coords_digits"].reshape(videos, frames, count, 2),
            "label": np.where(together, pair_label(classes[:, 0], classes[:, 1]), NUM_CLASSES - 1),
            "index": np.arange(videos),
            "behind": found["digit_position"].reshape(videos) == 0,
        }
        if noise:
            self.table["noise_index"] = found["ind_rand_part"].reshape(videos, noise).astype(np.int64)
            self.table["noise_coords"] = found["noise_coords"].reshape(videos, frames, noise, 2)

    def __len__(self) -> int:
        return len(self.table["label"])

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Scenes of many indices at once."""
        at = np.asarray(indices, np.int64)
        return {key: value[at] for key, value in self.table.items()}


class SyncMNIST(Dataset[dict[str, Tensor]]):
    """SyncMNIST's clips as a map-style dataset: which two digits of a video move together?

    Items are rendered when asked for. To render where the model runs, draw scenes with `draw` and hand
    them to `clips`.

    Args:
        scenes: Scenes (drawn from a seed) or PredefinedScenes (the authors' file).

    Items:
        clip (T, 1, size, size) uint8. label () int64, an index into pair_names(). Further the scene's own
        entries (see Scenes).
    """

    def __init__(self, scenes: SceneSource) -> None:
        self.scenes = scenes
        self._images: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        together = self.batch(indices)
        return [{key: value[i] for key, value in together.items()} for i in range(len(indices))]

    def draw(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Draw many scenes at once, without rendering them: what `clips` takes."""
        return {key: torch.from_numpy(value) for key, value in self.scenes.batch(indices).items()}

    def batch(self, indices: Sequence[int] | np.ndarray, device: str | torch.device = "cpu") -> dict[str, Tensor]:
        """Draw and render many videos at once: every entry of the items, with a leading batch axis."""
        scene = {key: value.to(device) for key, value in self.draw(indices).items()}
        return {"clip": self.clips(scene), **scene}

    def clips(self, scene: Mapping[str, Any]) -> Tensor:
        """Render a batch of scenes (B, T, 1, size, size) uint8, on the device of its digit_index."""
        noise = {}
        if "noise_index" in scene:
            patches = self.images(torch.as_tensor(scene["noise_index"]))[..., _PATCH, _PATCH]
            noise = {"noise": patches, "noise_coords": scene["noise_coords"]}
        config = self.scenes.config
        return render(
            self.digit_images(scene),
            scene["coords"],
            canvas=config.canvas,
            size=config.size,
            behind=scene.get("behind"),
            **noise,
        )

    def digit_images(self, scene: Mapping[str, Any]) -> Tensor:
        """The digits of a batch of scenes (B, D, 28, 28) uint8 as they are drawn: warped, where the scenes say so."""
        images = self.images(torch.as_tensor(scene["digit_index"]))
        if "warp" in scene:
            images = warp(images.flatten(0, 1), scene["warp"].flatten(0, 1)).view_as(images)
        return images

    def images(self, index: Tensor) -> Tensor:
        """The digits' images (..., 28, 28) uint8 of indices (...), on the indices' device."""
        if index.device not in self._images:
            self._images[index.device] = torch.from_numpy(self.scenes.digits.images.copy()).to(index.device)
        return self._images[index.device][index]


def make_scenes(
    digits: Digits,
    length: int,
    config: SceneConfig,
    seed: int = 0,
    predefined: str | Path | None = None,
    warped: bool = False,
) -> SceneSource:
    """Scenes drawn from a seed or, where `predefined` names the authors' file, read from it."""
    if predefined is None:
        return Scenes(digits, length, config, seed, warped=warped)
    return PredefinedScenes(predefined, digits, config.canvas, config.size)
