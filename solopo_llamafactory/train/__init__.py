"""The objective and the run: losses, trainer, reference, and what watches over them."""
