"""rstg models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jsonargparse.typing import PositiveInt

from rstg.cli.options import Parser
from rstg.errors import check_choice


def run(arguments: Sequence[str]) -> int:
    """List the networks with what they cost and what they reproduce."""
    parser = Parser(prog="rstg models", description="List the networks: parameters, cost of a clip, row of the paper.")
    parser.add_argument("names", nargs="*", default=[], help="networks to list, if not all")
    parser.add_argument("--num-classes", type=PositiveInt, default=None, help="classes, if not those of the experiment")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(arguments))

    from rstg.models.cost import count_macs, count_parameters
    from rstg.models.zoo import MODELS, create_model

    rows: list[dict[str, Any]] = []
    for name in options.names:
        check_choice("model", name, MODELS)
    for name in options.names or MODELS:
        entry = MODELS[name]
        model = create_model(name, **({} if options.num_classes is None else {"num_classes": options.num_classes}))
        rows.append(
            {
                "name": name,
                "parameters": count_parameters(model),
                "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
                "gmacs": round(count_macs(model, entry.clip) / 1e9, 3),
                "clip": list(entry.clip),
                "paper": entry.paper,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(row["name"]) for row in rows)
    print(f"{'name':{width}}  params/M  GMACs a clip  clip          row of the paper: top-1, top-5")
    for row in rows:
        clip = "x".join(str(size) for size in row["clip"])
        print(f"{row['name']:{width}}  {row['parameters'] / 1e6:8.2f}  {row['gmacs']:12.2f}  {clip:12}  {row['paper']}")
    print("\nparams: as the authors count, weights and batch norm statistics. GMACs: convolutions, matrix products,")
    print("recurrent cells and attention. rstg.create_model(name, num_classes=..., weights=...) builds them.")
    return 0
