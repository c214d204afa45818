"""The Hugging Face hub's layout: a folder with weights, configuration and a model card, here or on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from rstg.errors import MissingExtraError
from rstg.models.zoo import MODELS, name_of
from rstg.weights import CONFIG, WEIGHTS, load, read_facts, save

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_PAPER = "https://arxiv.org/abs/1904.05582"
_CITATION = """@inproceedings{nicolicioiu2019rstg,
  title={Recurrent Space-time Graph Neural Networks},
  author={Nicolicioiu, Andrei and Duta, Iulia and Leordeanu, Marius},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}"""


def save_pretrained(model: nn.Module | str | Path, folder: str | Path, **facts: Any) -> Path:
    """Save a network as the hub lays it out: what `rstg.save` writes, and a model card, README.md.

    `rstg.load` reads the folder, too. A card that is already there is left as it is.

    Args:
        model: A network of list_models(), or the folder of one, whose facts go into the card.
        folder: Made if needed.
        facts: Plain values for the card and config.json: data, seed, figures, license.

    Raises:
        ValueError: if the zoo does not hold the network's class.
        MissingExtraError: without the extra "hub".
    """
    _wrapped(model, facts).save_pretrained(folder)
    return Path(folder)


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    """Load a network from a folder or from the hub, in eval mode. Nothing of the files is executed.

    Args:
        source: A folder that `save_pretrained` or `rstg.save` wrote, or the hub's name "user/model".
        revision, token, cache_dir, local_files_only: As in huggingface_hub; no matter for a folder.

    Raises:
        FileNotFoundError: if the folder or one of its files is missing.
        ValueError: if the files are of another kind.
        MissingExtraError: without the extra "hub".
    """
    on_hub = isinstance(source, str) and re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", source)
    if not Path(source).is_dir() and not on_hub:
        raise FileNotFoundError(f"there is no folder {source}, and a name on the hub is of the form 'user/model'")
    network = _hub_class().from_pretrained(
        str(source), revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
    )
    return network.network


def push_to_hub(
    model: nn.Module | str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
    commit_message: str = "Upload model",
    **facts: Any,
) -> str:
    """Upload a network with its model card; return the address of the commit.

    Args:
        model, facts: As in save_pretrained.
        repo_id: "user/model"; made if needed.
        private, token, branch, create_pr, commit_message: As in huggingface_hub.

    Raises:
        ValueError: if the zoo does not hold the network's class.
        MissingExtraError: without the extra "hub".
    """
    return _wrapped(model, facts).push_to_hub(
        repo_id, private=private, token=token, branch=branch, create_pr=create_pr, commit_message=commit_message
    )


def _wrapped(model: nn.Module | str | Path, facts: dict[str, Any]) -> Any:
    hub_class = _hub_class()
    if isinstance(model, nn.Module):
        return hub_class(model, facts)
    found = load(model)
    return hub_class(found, {**read_facts(model), **facts})


def _hub_class() -> Any:
    """The mixin over a network held inside, so that huggingface_hub is optional and no weight's name changes."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError("the Hugging Face hub's layout", "huggingface_hub", "hub") from error

    class HubNetwork(huggingface_hub.ModelHubMixin):
        # The mixin fills arguments of these names from config.json, which must hold none of them.
        def __init__(self, wrapped_network: nn.Module, wrapped_facts: dict[str, Any]) -> None:
            self.network = wrapped_network
            self.facts = wrapped_facts

        def _save_pretrained(self, save_directory: Path) -> None:
            save(self.network, save_directory, **self.facts)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **where: Any) -> HubNetwork:  # type: ignore[override]
            if not Path(model_id).is_dir():
                model_id = huggingface_hub.snapshot_download(model_id, allow_patterns=[CONFIG, WEIGHTS], **where)
            return cls(load(model_id), {})

        def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
            return model_card(self.network, self.facts)

    return HubNetwork


def model_card(model: nn.Module, facts: dict[str, Any]) -> ModelCard:
    """Write the card of a network: what it is, its options, what is known about it, how to use it."""
    from huggingface_hub import ModelCard, ModelCardData

    name, options = name_of(model), _options(model)
    data = ModelCardData(
        library_name="rstg",
        pipeline_tag="video-classification",
        tags=["rstg", "video", "graph-neural-network"],
        license=facts.get("license"),
        datasets=facts.get("datasets"),
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in facts.items())
    known = f"| what | value |\n| --- | --- |\n{rows}" if facts else "Nothing was noted when it was saved."
    return ModelCard(f"""---
{data.to_yaml()}
---

# {name}

Recurrent space-time graph network for video ([paper]({_PAPER})). {MODELS[name].paper}.

{parameters:,} parameters, {options["num_classes"]} classes.

```python
import rstg

model = rstg.from_pretrained("this repository or folder")
logits = model(clip)  # (B, {options["in_channels"]}, T, H, W), pixels 0..255
```

## Data and figures

{known}

## Configuration

```json
{json.dumps(options, indent=2)}
```

## Citation

```bibtex
{_CITATION}
```
""")


def _options(model: nn.Module) -> dict[str, Any]:
    assert isinstance(model.config, dict)
    return model.config


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
