"""LangChain runnables, compressors and retrievers with a robustness certificate."""

from langchain_robust.classifier import CluCertClassifier
from langchain_robust.generator import RobustRAGGenerator
from langchain_robust.ranker import SmoothedRanker
from langchain_robust.repaired_ranker import NeuronRepairedRanker
from langchain_robust.retriever import RobustRetriever

__all__ = [
    "CluCertClassifier",
    "NeuronRepairedRanker",
    "RobustRAGGenerator",
    "RobustRetriever",
    "SmoothedRanker",
]
