"""The paper's graph: regions, nodes, the space and time stages, and the block that alternates them."""

from rstg.graph.base import GraphAttention, GraphState
from rstg.graph.block import RSTG
from rstg.graph.homogeneous import HomogeneousGraph

__all__ = ["RSTG", "GraphAttention", "GraphState", "HomogeneousGraph"]
