"""Why values of a record are missing: each reason once."""

import re
from collections.abc import Mapping, Sequence

from core.records import Metric, Record

_MOST_PLACES = 3


def undefined(record: Record) -> list[dict[str, object]]:
    """Why values are missing: each reason once, with the measures and examples that it is of.

    Reasons that differ in their numbers only are one; the first stands for them.
    """
    groups: dict[str, list[tuple[str, list[str]]]] = {}
    for name, reason in record.provenance.get("undefined", {}).items():
        groups.setdefault(re.sub(r"\d+", "#", reason), []).append((reason, _parts(name)))
    return [
        {
            "reason": _first_of([reason for reason, _ in found]),
            "measures": _listed([_measure(record.metrics, parts) for _, parts in found]),
            "where": _listed([_where(record, parts) for _, parts in found]),
        }
        for found in groups.values()
    ]


def _parts(name: str) -> list[str]:
    """Parts of a name, the two checkpoints of a pair together.

    Example:
        >>> _parts("erm/init | erm|iid|all|similarity|cka")
        ['erm/init | erm', 'iid', 'all', 'similarity', 'cka']
    """
    return re.split(r"(?<! )\|(?! )", name)


def _first_of(reasons: Sequence[str]) -> str:
    others = len(set(reasons)) - 1
    return reasons[0] + (" (and the like with other numbers)" if others else "")


def _measure(metrics: Mapping[str, Metric], parts: Sequence[str]) -> str:
    """The metric at the end of a name, or the family of a stage that has none."""
    return metrics[parts[-1]].title if parts[-1] in metrics else f"all of {parts[-1]}"


def _where(record: Record, parts: Sequence[str]) -> str:
    """Without the metric: checkpoints, layer, split, environment."""
    return ", ".join(part for part in parts if part not in record.metrics)


def _listed(entries: Sequence[str]) -> str:
    """Each entry once, and how many more there are where the list is long."""
    once = list(dict.fromkeys(entries))
    more = len(once) - _MOST_PLACES
    return "; ".join(once[:_MOST_PLACES]) + (f"; and {more} more" if more > 0 else "")
