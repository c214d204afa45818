"""What a block or network costs, measured: time beside the machine's own speed, memory, messages."""

from rstg.bench.case import Case, measure
from rstg.bench.process import measure_fresh
from rstg.bench.rounds import interleaved, quotients

__all__ = ["Case", "interleaved", "measure", "measure_fresh", "quotients"]
