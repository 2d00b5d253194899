r"""How large the tiles of a kernel are under a memory budget.

While others pass by, `width` at a time, a row of tiles keeps the gradients of its `height`
examples. Examples that are differentiated anew for every row go through the network

.. math:: K + K (K / h) / 2

times in all for a symmetric kernel of K examples in rows of height h: rows are to be high, which
leaves little for the columns. These must not be too few either, since the contraction forms some
gradients of a row once a tile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import InputError
from probes.ntk.footprint import Footprint

MOST_ROUNDS = 4  # backward passes again and again cost more than tiles, from about here on
COLUMNS = 1 / 4  # of the gradients that are kept: a third of the rows they meet


@dataclass(frozen=True)
class Plan:
    """Sizes of tiles and passes.

    Attributes:
        height: Examples of a row of tiles.
        width: Examples of a column.
        examples_a_pass: Examples that go through the network together.
        captured: Whether the gradients of a column are kept and contracted when they are whole,
            rather than contracted on the way back.
        rounds: Weights that are contracted together, where one tile is the whole kernel.
        together: Whether a contraction on the way back has all outputs at once, which the full
            kernel needs, or one after another.
    """

    height: int
    width: int
    examples_a_pass: int
    captured: bool = True
    rounds: Sequence[Sequence[str]] = ()
    together: bool = False


class Budget:
    """What memory there is for gradients, and what an example takes of it."""

    def __init__(
        self,
        total: int,
        reserved: int,
        need: Footprint,
        num_outputs: int,
        *,
        full: bool,
        examples_a_pass: int,
        processes: int = 1,
    ) -> None:
        self.total, self.processes = total, processes
        self.examples_a_pass = examples_a_pass
        self.room = total // processes - need.weights - need.patches - reserved
        self.need, self.full, self.all_outputs = need, full, num_outputs
        self.num_outputs = num_outputs if full else 1
        gradients = sum(need.gradients.values())
        self.passing = need.activations + self.num_outputs * gradients
        self.capturing = need.activations + num_outputs * gradients

    def check(self, *, captured: bool = False) -> None:
        """Whether one pair of examples fits.

        Raises:
            InputError: If it does not, with the smallest budget that is enough.
        """
        smallest = self.capturing + (2 if self.full or captured else 1) * self.need.stored
        if self.room < smallest:
            least = self.total + self.processes * (smallest - self.room)
            shared = f" for {self.processes} processes" if self.processes > 1 else ""
            raise InputError(
                f"the memory budget of {self.total / 1e6:.0f} MB{shared} does not hold one pair "
                f"of examples; give at least {least / 1e6 + 1:.0f}MB"
            )

    def one_tile(self, num: int) -> Plan | None:
        """The whole symmetric kernel at once, if it fits.

        It keeps no factors: contractions happen on the way back, of all outputs at once where
        their gradients fit. A full kernel takes as many rounds as it takes to keep the gradients
        of a part of the weights.
        """
        left, gradients = self.room // num - self.need.activations, self.need.gradients
        together = self.full or left > self.all_outputs * sum(gradients.values())
        outputs = self.all_outputs if together else 1
        if left > outputs * max(gradients.values()):
            rounds = _rounds(gradients, left // outputs)
            if len(rounds) <= MOST_ROUNDS:
                return Plan(num, num, num, rounds=rounds, together=together)
        return None

    def tiles(self, num: int, others: int | None, *, captured: bool = False) -> Plan:
        """Rows whose gradients are kept, of `num` examples with `others` or with themselves."""
        stored, passing, capturing = self.need.stored, self.passing, self.capturing
        if others is None and num <= (self.room - capturing) // stored:
            return Plan(num, num, (self.room - num * stored) // capturing)
        spare = min((self.room - 2 * stored) // capturing, self.room // 4 // capturing)
        together = max(1, min(self.examples_a_pass, spare))
        kept = (self.room - together * capturing) // stored
        if self.full or captured or (stored < passing and kept * COLUMNS >= 1):
            width = max(1, int(kept * COLUMNS))
            return Plan(kept - width, width, together)
        width = max(1, self.room // 2 // passing)
        if self.room < width * passing + stored:
            width = 1
        passes = max(width * passing, capturing)
        height = (self.room - passes) // stored
        return Plan(height, width, passes // capturing, captured=False)

    def holds(self, plan: Plan) -> bool:
        """Whether tiles of these sizes fit."""
        passes, kept = plan.examples_a_pass * self.capturing, plan.height
        if plan.captured:
            kept += plan.width
        else:
            passes = max(passes, plan.width * self.passing)
        return kept * self.need.stored + passes <= self.room


def _rounds(sizes: Mapping[str, int], room: int) -> list[list[str]]:
    """The weights in order, cut where a round would outgrow the room."""
    rounds, used = [[]], 0
    for name, size in sizes.items():
        if rounds[-1] and used + size > room:
            rounds.append([])
            used = 0
        rounds[-1].append(name)
        used += size
    return rounds
