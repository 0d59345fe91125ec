"""Run a callback right after a module is imported, without importing it now.

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


def rebind(prefix, attribute, old, new):
    """Give every loaded module under `prefix` that holds `old` by the name `attribute` the object `new` instead.

    A function that others took by `from module import name` before a mend came would stay unmended otherwise.
    """
    for name, module in list(sys.modules.items()):
        if (name == prefix or name.startswith(prefix + ".")) and vars(module).get(attribute) is old:
            setattr(module, attribute, new)
