"""Where the rows of a measure stand: on each environment, and on all of a split together."""

from collections.abc import Mapping
from typing import NamedTuple

from probes.feature_groups import ALL


class Place(NamedTuple):
    """What rows say of where they were measured, and the environments that this holds."""

    columns: dict[str, str]
    envs: list[str]


def places(splits: Mapping[str, str]) -> list[Place]:
    """Each environment, and all of each split under the name `all`.

    Args:
        splits: What each environment is: `iid`, `ood` or `given`.

    Example:
        >>> [place.envs for place in places({"ink": "iid", "photo": "iid", "sketch": "ood"})]
        [['ink'], ['photo'], ['sketch'], ['ink', 'photo'], ['sketch']]
    """
    found = [
        Place({"env": env, "split": split}, [env]) for env, split in splits.items() if env != ALL
    ]
    for split in dict.fromkeys(splits.values()):
        envs = [env for env in splits if splits[env] == split]
        found.append(Place({"env": ALL, "split": split}, envs))
    return found
