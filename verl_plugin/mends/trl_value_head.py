"""verl 0.9.1, `models/transformers/monkey_patch.py:352`, any device: where TRL 1.x is installed, every engine dies with
`ImportError: cannot import name 'AutoModelForCausalLMWithValueHead' from 'trl'`, a class that TRL no longer has and that
only verl's value-head critics use.

The mend lets that module believe that there is no TRL.
"""

from importlib.util import find_spec

from ..after_import import replace


def needed(monkey_patch) -> bool:
    """Only beside a TRL that lacks the class."""
    homes = ("trl.experimental.ppo", "trl.models.modeling_value_head")
    return monkey_patch.is_trl_available() and not any(find_spec(home) for home in homes)


def apply(monkey_patch) -> None:
    # verl.utils.model asks the same function and then says that TRL is missing, which is the truth for its purpose
    replace(monkey_patch, "is_trl_available", lambda original: lambda: False)
