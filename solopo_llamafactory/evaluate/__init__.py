"""Evaluation: held-out questions over a grid of context lengths and evidence depths."""
