"""What holds something of this process and cannot be given to another, or be had twice."""

from __future__ import annotations

from typing import NoReturn


class Unshared:
    """Refuses to be copied and pickled: a copy would hold what there is only one of."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        """Refuse, whoever asks: copy, pickle or multiprocessing."""
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: "
            "open another, in the process that is to use it"
        )
