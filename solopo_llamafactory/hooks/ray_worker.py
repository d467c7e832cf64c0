"""The worker that Ray sends to its processes.

Ray pickles a class by its module's name. A Ray process never calls `run_exp`: it unpickles this class, which imports
this module, which loads the host's tuner completely and places the seams before the training function is called.
"""

from llamafactory.train import tuner

from .seams import place_seams


class Worker(tuner.Worker):
    """The host's worker under a name of ours."""


place_seams()
