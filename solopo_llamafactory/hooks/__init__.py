"""What LLaMA-Factory calls: the names of it that this package replaces, and what stands in their place.

`seams.py` is the table of what is replaced, `join.py` puts it in place, and the other files hold the replacements.
"""

# Whoever imports this package first: the host's parser must be complete before `arguments.py` is begun, because our
# import hook needs that file as soon as the parser is loaded.
import llamafactory.hparams  # noqa: F401
