"""RobustRAG: isolate each passage, aggregate the isolated responses, certify the answer.

Source: Xiang et al. 2024, "Certifiably Robust RAG against Retrieval Corruption" (arXiv 2405.15556).
"""
