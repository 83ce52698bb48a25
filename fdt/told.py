"""What a teacher scored, by the hint it was told: ``teacher`` is the first hint of a row, ``hint_1`` the second …"""

from __future__ import annotations

from fdt.batch import Batch
from fdt.errors import UserError
from fdt.teachers import at
from objectives import Scored


def told(scored: Scored, part: Batch, needs: frozenset[str] | set[str]) -> dict[str, Scored]:
    """
    Args:
        scored: the teacher's view of a micro-batch, all hints in one forward.
        part: the micro-batch.
        needs: names that the objective asks for.

    Returns:
        One ``Scored`` a name, each indexed by the target tokens that it scored.

    Raises:
        UserError: where rows were read under several hints and no term listens to the further ones.
    """
    whole = at(scored, part.taught_tokens)
    if part.hint_number is None or not int(part.hint_number.max()):
        return {"teacher": whole}
    number = part.hint_number.repeat_interleave(part.student.counts[part.taught_rows])
    names = ["teacher", *(f"hint_{n}" for n in range(1, int(number.max()) + 1))]
    if unheard := set(names) - needs:
        raise UserError("hints that no term chooses from", got=sorted(unheard), expected="one hint a row",
                        key="data.hint", remedy="keep: 1, or a term objectives.DistillBestHint that names them in "
                        "`hints`")  # fmt: skip
    return {name: whole.select((number == n).nonzero()[:, 0]) for n, name in enumerate(names)}
