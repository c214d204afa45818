"""Videos a second on one core: drawing scenes, and drawing and rendering them.

python benchmarks/syncmnist_generator.py
"""

from __future__ import annotations

import json
import statistics
import time

import numpy as np
import torch

from rstg.data import SceneConfig, Scenes, load_digits, render

BATCH, ROUNDS = 256, 9


def main() -> None:
    """Print one line of JSON for each number of digits: medians and the spread of the rounds."""
    torch.set_num_threads(1)
    digits = load_digits()
    for count in (3, 5):
        scenes = Scenes(digits, BATCH * (ROUNDS + 1), SceneConfig(digits=count))
        rates = []
        for turn in range(ROUNDS + 1):
            start = time.perf_counter()
            scene = scenes.batch(np.arange(turn * BATCH, (turn + 1) * BATCH))
            render(digits.images[scene["digit_index"]], scene["coords"])
            rates.append(BATCH / (time.perf_counter() - start))
        rates = rates[1:]  # the first compiles
        result = {"digits": count, "videos_per_s": round(statistics.median(rates))}
        print(json.dumps({**result, "lowest": round(min(rates)), "highest": round(max(rates))}))


if __name__ == "__main__":
    main()
