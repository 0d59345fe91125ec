"""The same constraint as `answer_schema`, as a grammar (EBNF) that is quick to read and leaves nothing open that an untrained
model could lose itself in: JSON without white space, as the prompt shows it, keys in the prompt's order, at most three decimals.

A schema spells each cell of `Limits.step` out with its own end; a grammar names "this cell or a later one" once.
"""

import json
from collections.abc import Sequence
from itertools import pairwise

from .answer_schema import Limits, constraint, last_time, require_json, time_cells
from .tasks import Task
from .taxonomy import Taxonomy


def answer_grammar(task: str | Task, taxonomy: Taxonomy | None = None, limits: Limits | None = None) -> str:
    """The grammar of an answer to a grounding or localization task, in the EBNF of vLLM's `grammar` (xgrammar, GBNF).

    Raises:
        TaskError, TaxonomyError: as `answer_schema`.
    """
    task, limits = require_json(task), limits or Limits()
    rules = _time_rules(limits)
    if not task.labels:
        rules["segment"] = '"{" times "}"'
        segments = f"({_several('segment', limits.max_segments)})?"
    else:
        rules |= _label_rules(task, taxonomy or Taxonomy.load(), limits.max_tags)
        rules["segment"] = '"{" times ",\\"labels\\":" labels "}"'
        rules["first"] = '"{" times ",\\"labels\\":" first_labels "}"' if task.first_unlabelled else "segment"
        segments = "first" + _more("segment", limits.max_segments)
    rules = {"root": f'"{{\\"segments\\":[" {segments} "]}}"', **rules}
    return "".join(f"{name} ::= {body}\n" for name, body in rules.items())


def compact_constraint(
    task: str | Task, taxonomy: Taxonomy | None = None, limits: Limits | None = None
) -> dict[str, str]:
    """`constraint` with a grammar in the place of the schema: `{"grammar": text}`, `{"regex": pattern}`, or `{}`."""
    found = constraint(task, taxonomy, limits)
    return {"grammar": answer_grammar(task, taxonomy, limits)} if "json" in found else found


def _label_rules(task: Task, taxonomy: Taxonomy, max_tags: int | None) -> dict[str, str]:
    rules, dimensions = {}, {}
    for i, (dimension, name) in enumerate(task.labels):
        sub = taxonomy.sub_dimension(dimension, name)
        rules[f"tag{i}"] = " | ".join(_literal(json.dumps(tag, ensure_ascii=False)) for tag in sub.labels)
        most = len(sub.labels) if max_tags is None else min(max_tags, len(sub.labels))
        value = f'"[" {_several(f"tag{i}", most)} "]"' if sub.cardinality == "many" else f"tag{i}"
        rules[f"sub{i}"] = f"{_literal(json.dumps(name) + ':')} {value}"
        dimensions.setdefault(dimension, []).append(f"sub{i}")
    for k, (dimension, subs) in enumerate(dimensions.items()):
        rules[f"dimension{k}"] = f'{_literal(json.dumps(dimension) + ":")} "{{" ({_some(subs)}) "}}"'
    names = [f"dimension{k}" for k in range(len(dimensions))]
    rules["labels"] = '"{" ' + ' "," '.join(names) + ' "}"'
    if task.first_unlabelled:
        rules["first_labels"] = f'"{{" ({_some(names)})? "}}"'
    return rules


def _time_rules(limits: Limits) -> dict[str, str]:
    """`times`: a start and an end; with a step, no end before its start."""
    decimals = {"decimals": '("." [0-9] [0-9]? [0-9]?)?'}
    if cells := time_cells(limits):
        bounds = [round(1000 * bound) for bound in (cells[0][0], *(b for _, b in cells))]
        rules, starts = {}, []
        for k, (a, b) in enumerate(pairwise(bounds)):
            rules |= {f"in{k}": _interval(a, b), f"at{k + 1}": _interval(b, b + 1)}
            rules[f"from{k}"] = f"in{k} | from{k + 1}"
            starts.append(f'(in{k} | at{k + 1}) ",\\"end\\":" from{k + 1}')
        last = len(cells)
        del rules["from0"]
        return {"times": f'"\\"start\\":" ({" | ".join(starts)})', **rules, f"from{last}": f"at{last}", **decimals}
    whole, rest = divmod(round(1000 * last_time(limits)), 1000)
    below = f"({_below(whole)}) decimals | " if whole else ""
    rules = {"time": f'{below}"{whole}" {_fraction(0, rest + 1)}'}
    return {"times": '"\\"start\\":" time ",\\"end\\":" time', **rules, **decimals}


def _interval(low: int, high: int) -> str:
    """Numbers from `low` to below `high`, in thousandths, with at most three decimals."""
    parts = []
    for whole in range(low // 1000, (high - 1) // 1000 + 1):
        fraction = _fraction(max(low - 1000 * whole, 0), min(high - 1000 * whole, 1000))
        parts.append(f'"{whole}" {fraction}'.rstrip())
    return " | ".join(parts)


def _fraction(low: int, high: int) -> str:
    """What may follow a whole number for `low` <= thousandths < `high`, both from 0 to 1000."""
    if (low, high) == (0, 1000):
        return "decimals"
    return f'("." ({_digits(low, high, 100)}))' + "?" * (low == 0)


def _digits(low: int, high: int, unit: int) -> str:
    """Texts of one to three digits, the first worth `unit`, the further ones optional, for `low` <= value < `high`."""
    whole, parts = [], []
    for digit in range(10):
        here = digit * unit
        if here >= low and here + unit <= high:
            whole.append(digit)
        elif here < high and here + unit > low:
            further = _digits(max(low - here, 0), min(high - here, unit), unit // 10)
            parts.append(f'"{digit}" ({further})' + "?" * (here >= low))
    if whole:
        parts.append(f"[{whole[0]}-{whole[-1]}]" + " [0-9]?" * (len(str(unit)) - 1))
    return " | ".join(parts)


def _below(limit: int) -> str:
    """Whole numbers from 0 to below `limit`, which is 1 or more, without leading zeros."""
    most = str(limit - 1)
    parts = ['"0"', *(f"[1-9]{' [0-9]' * n}" for n in range(len(most) - 1))]
    for place, digit in enumerate(most):
        least = 1 if place == 0 else 0
        if int(digit) > least:
            start = f'"{most[:place]}" ' if place else ""
            parts.append(f"{start}[{least}-{int(digit) - 1}]{' [0-9]' * (len(most) - place - 1)}")
    return " | ".join([*parts, *([f'"{most}"'] if most != "0" else [])])


def _some(names: Sequence[str]) -> str:
    """One or more of the names, in their order, between commas."""
    followers = [f'("," {name})?' for name in names]
    return " | ".join(" ".join([name, *followers[i + 1 :]]) for i, name in enumerate(names))


def _several(name: str, most: int | None) -> str:
    return name + _more(name, most)


def _more(name: str, most: int | None) -> str:
    """Up to `most` in all, one of which stands before."""
    if most == 1:
        return ""
    return f' ("," {name})' + ("*" if most is None else f"{{0,{most - 1}}}")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
