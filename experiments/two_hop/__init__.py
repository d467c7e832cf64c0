"""The paper's comparison on a model of 0.4 M parameters."""

import solopo_llamafactory


solopo_llamafactory.enable()  # where the package is not installed, and PyTorch does not call its hook
