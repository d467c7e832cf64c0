"""The only rooms that touch LLaMA-Factory's internals.

`seams.py` is the table of what is replaced in the host, `join.py` puts it in place; `arguments.py`, `data.py` and
`stage.py` hold the replacements, `imports.py` what the rest of the package uses of the host, and `checkpoints.py` the
rule for resuming.
"""

# Whoever imports this package first: the host's parser must be complete before `arguments.py` is begun, because our
# import hook needs that file as soon as the parser is loaded.
import llamafactory.hparams  # noqa: F401
