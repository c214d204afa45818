"""Results files: complete, readable again, and the pages in docs/results are those made from them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from rstg.results import KEYS, provenance, read_results, spread, write_results

REPO = Path(__file__).resolve().parent.parent


def test_a_results_file_says_how_to_measure_again(tmp_path):
    path = tmp_path / "made" / "x.json"
    facts = {"command": "python x.py", "config": {"rounds": 3}, "seed": 0, "data": "5 digits", "wall_seconds": 1.23}
    written = write_results(path, **facts, figures={"rate": spread([3.0, 1.0, 2.0])})
    assert read_results(path) == written and set(KEYS) < set(written)
    assert written["figures"]["rate"] == {"median": 2, "lowest": 1, "highest": 3, "rounds": 3}
    assert "`python x.py`" in provenance(written) and "rounds 3" in provenance(written)
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    for bad, told in (("{", "not JSON"), ("{}", "not a results file"), ('{"format": "rstg-results-1"}', "lacks")):
        path.write_text(bad)
        with pytest.raises(ValueError, match=told):
            read_results(path)


@pytest.mark.parametrize("name", sorted(p.stem for p in (REPO / "benchmarks").glob("*.py")))
def test_every_program_that_measures_left_its_results(name):
    spec = importlib.util.spec_from_file_location(name, REPO / "benchmarks" / f"{name}.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    results = read_results(REPO / "docs" / "results" / program.RESULTS)
    page = (REPO / "docs" / "results" / program.RESULTS).with_suffix(".md")
    assert page.read_text() == program.page(json.loads(json.dumps(results)))
    assert results["commit"] and not results["commit"].endswith("+changes")
