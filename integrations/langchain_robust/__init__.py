"""LangChain runnables, compressors and retrievers with a robustness certificate."""

from langchain_robust.generator import RobustRAGGenerator

__all__ = ["RobustRAGGenerator"]
