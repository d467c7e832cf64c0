"""What this package calls of LLaMA-Factory. No other room but `hooks` imports the host."""

# First of all: on its way the host mends transformers' answer to which packages are installed (`extras/packages.py`), and
# trl, which its trainers import, asks for that once and for good.
import llamafactory.hparams  # noqa: F401
