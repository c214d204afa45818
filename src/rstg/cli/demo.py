"""rstg demo: the main job on two CPU cores within minutes: a trained network tested, new graphs trained, a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.cli.options import Parser, add_run_options, default_config, load_config

PACKAGED = "syncmnist3"
# The packaged network, untrained, whole and without what the paper's ablation takes away. Without time there is no
# recurrence, and no node is told of the frame before.
NETWORKS: dict[str, dict[str, Any]] = {
    "RSTG": {},
    "without space messages": {"schedule": "time"},
    "without time": {"schedule": "space", "motion": False},
}


def run(arguments: Sequence[str]) -> int:
    """Test, train and report."""
    parser = Parser(
        prog="rstg demo",
        description="Test the packaged network on new videos of three digits, train new graphs live, write a report.",
    )
    usual = default_config("syncmnist3/demo.yaml")
    add_run_options(parser, usual)
    parser.add_argument("--out", type=str, default="runs/demo", help="folder of the report; a run in it goes on")
    options = parser.parse_args(list(arguments))
    config, out = load_config(options.config or usual, options.overrides), Path(options.out)

    import torch

    from rstg.results import write_results
    from rstg.training.config import ModelConfig
    from rstg.training.data import SyncMNISTData
    from rstg.training.run import CURVES, evaluate, train_side_by_side
    from rstg.training.side_by_side import variants
    from rstg.viz.pictures import curves_picture
    from rstg.viz.report import write_report
    from rstg.weights import load, read_facts

    if config.model != ModelConfig() or config.pretrain is not None:
        raise ValueError(
            "the demo trains graphs on the packaged network's CNN: leave model and pretrain out, or use rstg train"
        )
    begun = time.perf_counter()
    packaged: Any = load(PACKAGED)
    config.model.options = packaged.config
    found: dict[str, dict[str, Any]] = {}

    def test(name: str, model: torch.nn.Module, trained_on: int) -> None:
        print(f"testing {name} on {config.data.test_videos} videos", file=sys.stderr, flush=True)
        found[name] = {**evaluate(model, config), "training_videos": trained_on}
        print(f"{name}: top-1 {found[name]['top1']:.4f}", file=sys.stderr, flush=True)

    test(f"packaged ({PACKAGED})", packaged, read_facts(PACKAGED)["training_videos"])
    networks = variants(packaged, NETWORKS, config.seed)
    folders = train_side_by_side(config, networks, out / "live", resume=True)
    for name, folder in folders.items():
        test(f"live: {name}", load(folder / "model"), config.optimizer.steps * config.optimizer.batch_size)
    curves_picture({name: folder / "train" / CURVES for name, folder in folders.items()}, out / "curves.png")
    seconds = time.perf_counter() - begun
    videos = SyncMNISTData(config.data, seed=config.seed).videos("test")
    write_report(out, packaged, videos, found, config.seed, seconds)
    rows = {n: {k: v for k, v in f.items() if k not in ("logits", "labels")} for n, f in found.items()}
    write_results(
        out / "metrics.json",
        command=f"rstg demo {' '.join(arguments)}".strip(),
        config=config.as_dict(),
        seed=config.seed,
        data=videos.scenes.digits.describe(),
        wall_seconds=seconds,
        figures=rows,
    )
    print((out / "report.md").read_text())
    return 0
