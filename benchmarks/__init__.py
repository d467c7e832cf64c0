"""LLaMA-Factory's own dpo stage, plain long preference optimization and SoLoPO, measured on the same examples.

`python -m benchmarks --suite NAME`; see README.md beside this file.
"""
