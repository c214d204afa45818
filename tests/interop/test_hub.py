"""The Hugging Face hub's layout, on folders and on its cache; nothing is fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch

import rstg
from rstg.errors import MissingExtraError
from rstg.weights import read_facts


def small():
    return rstg.create_model("syncmnist", channels=(4, 4, 8), graph={"iterations": 1}).eval()


def clip():
    return torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)


def test_a_folder_holds_weights_config_and_a_card_and_gives_the_model_back(tmp_path):
    model, x = small(), clip()
    folder = rstg.save_pretrained(model, tmp_path / "model", data="SyncMNIST, 3|5 digits", top1=0.9731)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    for told in ("top1 | 0.9731", r"SyncMNIST, 3\|5 digits", '"channels": [', "library_name: rstg"):
        assert told in card
    for again in (rstg.from_pretrained(folder), rstg.load(folder)):
        assert not again.training
        assert again.state_dict().keys() == model.state_dict().keys()
        with torch.no_grad():
            assert torch.equal(again(x), model(x))


def test_a_saved_folder_is_read_as_well_and_hands_its_facts_on(tmp_path):
    rstg.save(small(), tmp_path / "saved", seed=11, license="apache-2.0")
    assert rstg.from_pretrained(tmp_path / "saved").num_classes == 46
    rstg.save_pretrained(tmp_path / "saved", tmp_path / "shared", top1=0.5)
    assert json.loads((tmp_path / "shared" / "config.json").read_text())["facts"] == {
        "seed": 11,
        "license": "apache-2.0",
        "top1": 0.5,
    }
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "seed | 11" in card and "\nlicense: apache-2.0\n" in card
    (tmp_path / "shared" / "config.json").write_text('{"model": "syncmnist"}')
    with pytest.raises(ValueError, match="does not describe a model of rstg"):
        rstg.from_pretrained(tmp_path / "shared")


def test_a_model_of_the_hub_s_cache_is_read_offline(tmp_path):
    model, x = small(), clip()
    home = tmp_path / "cache" / "models--someone--digits"
    rstg.save_pretrained(model, home / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    where = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    with torch.no_grad():
        assert torch.equal(rstg.from_pretrained("someone/digits", **where)(x), model(x))
    with pytest.raises(FileNotFoundError):
        rstg.from_pretrained("someone/nothing", **where)


def test_what_is_uploaded_is_the_folder(tmp_path, monkeypatch):
    class Api:
        def __init__(self, **given):
            pass

        def create_repo(self, repo_id, **given):
            assert given["private"] is True
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path, **given):
            shutil.copytree(folder_path, tmp_path / "uploaded")
            assert given["repo_id"] == "someone/digits"
            return "commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    model, x = small(), clip()
    assert rstg.push_to_hub(model, "someone/digits", private=True, top1=0.7) == "commit"
    assert "top1 | 0.7" in (tmp_path / "uploaded" / "README.md").read_text()
    with torch.no_grad():
        assert torch.equal(rstg.load(tmp_path / "uploaded")(x), model(x))


def test_the_package_is_optional_and_its_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rstg\[hub\]'"):
        rstg.save_pretrained(small(), tmp_path)
    code = "import sys, rstg.weights, rstg.interop.hub; print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./model", "a/b/c"])
def test_a_folder_that_is_not_there_is_no_name_on_the_hub(source):
    with pytest.raises(FileNotFoundError, match=r"no folder .*user/model"):
        rstg.from_pretrained(source)


def test_a_packaged_network_goes_out_by_its_name_with_its_facts(tmp_path):
    pytest.importorskip("huggingface_hub")
    rstg.save_pretrained("syncmnist3", tmp_path / "out")
    assert read_facts(tmp_path / "out") == read_facts("syncmnist3")
