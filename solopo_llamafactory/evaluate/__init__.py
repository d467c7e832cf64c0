"""Evaluation: contexts at many lengths and depths, answers of several models, scores and a page about them."""
