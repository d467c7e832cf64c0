"""Evaluation: accuracy of several models over a grid of context lengths and evidence depths.

The way of the data: source -> grid (contexts.jsonl) -> answers of each model -> scoring -> page.
"""
