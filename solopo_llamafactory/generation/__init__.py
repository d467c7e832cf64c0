"""Answers of a causal language model to many prompts: each prompt is computed once for all its answers, and a row whose
answer has ended takes the next one.
"""
