"""Videos a second in one thread: drawing SyncMNIST's scenes, rendering them, and both.

python benchmarks/syncmnist_generator.py --out docs/results

writes generator.json and, from it, generator.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rstg.data import SceneConfig, Scenes, load_digits, render
from rstg.results import provenance, spread, table, write_page, write_results

RESULTS = "generator.json"
SEED = 0
# On one core of an idle machine of the same kind, writing no files: 900 videos, median of 3.
RELEASED = {"draw and render": 254, "render": 469}


def rates(digits_in_scene: int, batch: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Videos a second of each stage, by the clock and of CPU time; every round draws other scenes."""
    digits = load_digits()
    scenes = Scenes(digits, batch * (rounds + 1), SceneConfig(digits=digits_in_scene), SEED)
    drawn: dict[int, dict[str, Any]] = {}

    def draw(turn: int) -> None:
        drawn[turn] = scenes.batch(np.arange(turn * batch, (turn + 1) * batch))

    def show(turn: int) -> None:
        render(digits.images[drawn[turn]["digit_index"]], drawn[turn]["coords"])

    def both(turn: int) -> None:
        draw(turn)
        show(turn)

    stages: dict[str, Callable[[int], None]] = {"draw and render": both, "draw": draw, "render": show}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    for turn in range(rounds + 1):
        for name, stage in stages.items():
            clock, cpu = time.perf_counter(), time.process_time()
            stage(turn)
            taken[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    # The first round compiles.
    return {
        name: {kind: spread(batch / pair[at] for pair in pairs[1:]) for at, kind in enumerate(("clock", "cpu"))}
        for name, pairs in taken.items()
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for scene, stages in results["figures"].items():
        for name, found in stages.items():
            cpu, clock, theirs = found["cpu"], found["clock"], RELEASED.get(name)
            times = f"{cpu['median'] / theirs:.0f}" if theirs else ""
            cells = [
                f"{kind['median']:,.0f} ({kind['lowest']:,.0f} to {kind['highest']:,.0f})" for kind in (cpu, clock)
            ]
            rows.append([scene, name, *cells, theirs or "", times])
    header = ["scene", "stage", "videos a CPU second", "by the clock", "released generator", "times"]
    return (
        "# The SyncMNIST generator\n\n"
        "Videos of 10 frames of 64x64 pixels a second, in one thread: median (lowest to highest). The frames are bit "
        "for bit those of the released generator.\n\n"
        f"{table(header, rows)}\n\n"
        "The released generator's rates are its own on one core of an idle machine of the same kind, writing no files "
        "(900 videos, median of 3); `render` is its rate from predefined scenes. `times` compares it with the CPU "
        "seconds: where other programs run, as the load average tells, the clock also counts the time they took.\n\n"
        f"{provenance(results)}\n"
    )


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of generator.json and .md")
    parser.add_argument("--rounds", type=int, default=60, help="measurements of each stage")
    parser.add_argument("--batch", type=int, default=256, help="videos of a measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    figures = {f"{count} digits": rates(count, options.batch, options.rounds) for count in (3, 5)}
    config = {"rounds": options.rounds, "batch": options.batch}
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/syncmnist_generator.py --out {options.out}",
        config=config,
        seed=SEED,
        data=load_digits().describe(),
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_page(options.out / RESULTS, page(results))


if __name__ == "__main__":
    main()
