"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from rstg.cli.main import COMMANDS

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_block_in_a_network_of_ones_own():
    shown = next(code for code in PYTHON if "class Network" in code)
    names: dict[str, object] = {}
    exec(shown, names)
    network = names["Network"](torch.nn.Conv3d(3, 512, 3, padding=1), 7).eval()
    clip = torch.rand(2, 3, 4, 6, 6)
    with torch.no_grad():
        logits = network(clip)
        assert logits.shape == (2, 7) and logits.isfinite().all()
        # And frame by frame, with the names that the text gives.
        block, volume = network.graph, network.backbone(clip)
        assert "`state = block.initial_state(batch)`" in README and "`out, state = block.step(frame, state)`" in README
        state = block.initial_state(2)
        for frame in volume.unbind(2):
            out, state = block.step(frame, state)
        torch.testing.assert_close(network.head(out), logits, atol=1e-5, rtol=1e-5)


def test_a_network_of_the_zoo():
    shown = next(code for code in PYTHON if "create_model" in code)
    # The same on fewer, smaller frames, which is what the comment promises.
    small = shown.replace("(1, 3, 8, 224, 224)", "(1, 3, 2, 64, 64)")
    assert small != shown
    names: dict[str, object] = {}
    with torch.no_grad():
        exec(small, names)
    assert names["logits"].shape == (1, 174) and set(names["attention"]) == {"res3_2", "res4_4"}


def test_every_python_block_is_run_above():
    assert len(PYTHON) == 2


@pytest.mark.parametrize("line", re.findall(r"^    (rstg .*)$", README, re.MULTILINE))
def test_the_commands_and_their_options_are_there(line, capsys):
    words = shlex.split(line, comments=True)
    names = [word for word in words[1:3] if re.fullmatch("[a-z]+(-[a-z]+)*", word)]
    from rstg.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main([*names, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0 and names[0] in COMMANDS
    for option in (word for word in words if word.startswith("--")):
        assert option in told, option
