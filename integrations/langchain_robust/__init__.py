"""LangChain runnables, compressors and retrievers with a robustness certificate."""
