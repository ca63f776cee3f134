"""Evaluation: attacks on retrieval, plain baselines, data readers."""
