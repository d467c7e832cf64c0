"""The hook: how `stage: solopo` reaches every process that LLaMA-Factory starts.

PyTorch calls the `torch.backends` entry points at the end of `import torch`. That is meant for device back ends; it is
also the one place that `llamafactory-cli`, its torchrun workers, the web UI's child processes and Ray workers all pass
through. `install` only leaves an import hook behind: nothing else happens until `llamafactory` is imported.

Off switches: `SOLOPO_DISABLE=1` (this package) or `TORCH_DEVICE_BACKEND_AUTOLOAD=0` (every such entry point).
An exception here would make `import torch` fail, hence the standard library only and the catch-all.
"""

import os
import sys


# Host module -> function of `hooks.join` to call with it once it is loaded. `hparams.parser` is the first host module
# that is always imported after torch, and `read_args` in it is called before any training starts. `webui.components.train`
# is the web UI's first one that is.
HOOKED_MODULES = {
    "llamafactory.hparams.parser": "join_parser",
    "llamafactory.v1.config.arg_parser": "join_v1_parser",
    "llamafactory.webui.components.train": "join_webui",
}


def install() -> None:
    """The entry point. Never raises; does nothing when `SOLOPO_DISABLE` is set."""
    try:
        if os.environ.get("SOLOPO_DISABLE", "").lower() not in ("1", "true", "yes", "on", "y"):
            enable()
    except Exception as err:
        _say(f"solopo_llamafactory could not install its hook, `stage: solopo` is off: {err!r}")


def enable() -> None:
    """Join the host modules that are loaded already and wait for the others."""
    if not any(getattr(finder, "is_solopo_hook", False) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostImportHook())
    for name in HOOKED_MODULES:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _join(module)


class _HostImportHook:
    """A finder that lets the other finders find the hooked modules and acts once they are executed."""

    is_solopo_hook = True  # by name, not by class: this module may be loaded twice

    def find_spec(self, name, path=None, target=None):
        if name not in HOOKED_MODULES:
            return None
        for finder in sys.meta_path:
            if getattr(finder, "is_solopo_hook", False) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None

        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _join(module)

        spec.loader.exec_module = exec_module  # the loader object belongs to this one module
        return spec


def _join(module) -> None:
    try:
        from .hooks import join

        getattr(join, HOOKED_MODULES[module.__name__])(module)
    except Exception as err:
        _say(f"solopo_llamafactory could not join LLaMA-Factory, `stage: solopo` is off: {err!r}")


def _say(sentence: str) -> None:
    try:  # not warnings.warn: `python -W error` would turn it into the exception that must not be
        print(f"Warning: {sentence}", file=sys.stderr)
    except Exception:
        pass
