"""Answers for videos: predictions of files, and of streams while they run."""

from __future__ import annotations

from rstg.inference.network import Network, Ranked, read_network
from rstg.inference.predict import Prediction, Predictor
from rstg.inference.stream import Answer, Stream, Summary

__all__ = ["Answer", "Network", "Prediction", "Predictor", "Ranked", "Stream", "Summary", "read_network"]
