"""SoLoPO and its rivals on a real language model of 135 M parameters, through the product's own commands."""
