"""Why a model or a generation config is left to transformers' own `generate`."""


class UnfitError(ValueError):
    """Says it in words that follow "because" and a colon."""
