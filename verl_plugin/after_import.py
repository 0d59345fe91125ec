"""Run a callback right after a module is imported, without importing it now; replace a function of a module for good.

verl loads its plug-ins at the end of `import verl`; importing engines or trainers there would be circular and slow, and
the platform would not be in place yet. Standard library only: `cpu_stack` uses it at interpreter start.
"""

import importlib.util
import sys


class _Watcher:
    """A meta path finder that waits for one module, steps aside, and runs the callbacks once the module has executed."""

    def __init__(self, name):
        self.name = name
        self.callbacks = []

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            for callback in self.callbacks:
                callback(module)

        spec.loader.exec_module = exec_module
        return spec


def after_import(name, callback):
    """Call `callback(module)` once module `name` has been imported; at once where it already is.

    Args:
        name: absolute module name.
        callback: called with the module; its exceptions reach whoever imports the module.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        callback(module)
        return
    watcher = next((w for w in sys.meta_path if isinstance(w, _Watcher) and w.name == name), None)
    if watcher is None:
        watcher = _Watcher(name)
        sys.meta_path.insert(0, watcher)
    watcher.callbacks.append(callback)


def replace(module, name, make):
    """Put `make(original)` in the place of `module.name`, once; a second call does nothing.

    Other loaded modules of the same top-level package that took the original by `from module import name` get the
    replacement too. The original stays reachable as the replacement's `__sv6d_original__`.
    """
    original = getattr(module, name)
    if hasattr(original, "__sv6d_original__"):
        return
    replacement = make(original)
    replacement.__sv6d_original__ = original
    setattr(module, name, replacement)
    package = module.__name__.partition(".")[0]
    for other_name, other in list(sys.modules.items()):
        if other_name.partition(".")[0] == package and vars(other).get(name) is original:
            setattr(other, name, replacement)
