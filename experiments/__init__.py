"""What models learn, measured. Run from the repository: `python -m experiments.NAME`."""
