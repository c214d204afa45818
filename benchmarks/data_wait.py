"""What SyncMNIST training waits for: batches that are made while the one before is learnt from, and in turn.

python benchmarks/data_wait.py --out docs/results

writes data_wait.json and, from it, data_wait.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from torch import Tensor, autocast, bfloat16, nn

from rstg.bench import quotients
from rstg.cli.options import default_config, load_config
from rstg.models import create_model
from rstg.results import provenance, spread, table, write_page, write_results
from rstg.training.config import TrainConfig
from rstg.training.data import SyncMNISTData
from rstg.training.fitting import resolve_precision
from rstg.training.memory import keep_freed_memory
from rstg.training.modules import ClipClassifier, make_optimizer

RESULTS = "data_wait.json"
CONFIG = "syncmnist3/packaged.yaml"


def data_wait(config: TrainConfig, rounds: int, steps: int) -> dict[str, Any]:
    """What SyncMNIST training waits for its batches: made while the one before is learnt from, and made in turn.

    With a run's network and videos, its CNN frozen, and learning. `ahead` and `in_turn`: share of a step that
    goes into having its batch. `times`: how long steps with batches in turn take beside steps with batches ahead.
    """
    half = resolve_precision(config.precision, "cpu") == "bf16"
    size = config.optimizer.batch_size
    found: dict[str, Any] = {}
    for name, frozen in (("frozen CNN", True), ("whole network", False)):
        module = ClipClassifier(create_model(config.model.name, **config.model.options), config.optimizer, frozen)
        optimizer = make_optimizer(module, config.optimizer)["optimizer"]
        data = SyncMNISTData(config.data, steps + 1, size, config.seed)
        videos = data.videos("train")

        def learn(batch: dict[str, Tensor], module: Any = module, optimizer: Any = optimizer) -> None:
            with autocast("cpu", bfloat16, enabled=half):
                logits = module(batch["clip"])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits.float(), batch["label"]).backward()
            optimizer.step()

        shares: dict[str, list[float]] = {"ahead": [], "in_turn": []}
        seconds: dict[str, list[float]] = {"ahead": [], "in_turn": []}
        for _ in range(rounds):
            in_turn = (videos.batch(range(at * size, (at + 1) * size)) for at in range(steps + 1))
            for how, batches in (("ahead", iter(data.train_dataloader())), ("in_turn", in_turn)):
                learn(next(batches))
                started, waited = time.perf_counter(), 0.0
                for _ in range(steps):
                    begun = time.perf_counter()
                    batch = next(batches)
                    waited += time.perf_counter() - begun
                    learn(batch)
                taken = time.perf_counter() - started
                shares[how].append(waited / taken)
                seconds[how].append(taken)
        found[name] = {how: spread(part) for how, part in shares.items()}
        found[name]["times"] = spread(quotients(seconds["in_turn"], seconds["ahead"]))
    return found


def _percent(found: dict[str, float]) -> str:
    return f"{found['median']:.1%} ({found['lowest']:.1%} to {found['highest']:.1%})"


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for name, found in results["figures"].items():
        times = "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**found["times"])
        rows.append([name, *(_percent(found[how]) for how in ("ahead", "in_turn")), times])
    return (
        "# What training waits for\n\n"
        "Share of training on SyncMNIST, with the packaged network, that goes into waiting for batches: as it is, each "
        "made in a thread while the one before is learnt from, and if they were made in turn. `times`: how long "
        "training takes then, beside as it is. Where the network keeps all cores busy by itself the work is moved, not "
        "saved.\n\n" + table(["training", "waiting", "in turn", "times"], rows) + f"\n\n{provenance(results)}\n"
    )


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--rounds", type=int, default=7, help="of each of the two, in turn")
    parser.add_argument("--steps", type=int, default=15, help="of a round")
    options = parser.parse_args()
    # As rstg train does.
    keep_freed_memory()
    begun = time.perf_counter()
    config = load_config(default_config(CONFIG))
    figures = data_wait(config, options.rounds, options.steps)
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/data_wait.py --out {options.out}",
        config={"rounds": options.rounds, "steps": options.steps, "config": CONFIG},
        seed=config.seed,
        data=SyncMNISTData(config.data).digits("train").describe(),
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_page(options.out / RESULTS, page(results))


if __name__ == "__main__":
    main()
