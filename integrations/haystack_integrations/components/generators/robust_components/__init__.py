"""Haystack components that generate answers with a robustness certificate."""
