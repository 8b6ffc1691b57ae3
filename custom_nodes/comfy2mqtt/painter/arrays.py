"""The one kind of array that a picture is made of."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Pictures are float32; numpy's own arithmetic on the way there may widen.
Floats: TypeAlias = NDArray[np.floating[Any]]


def floats(values: ArrayLike) -> Floats:
    """The values as float32, copied only where they are something else."""
    return np.asarray(values, dtype=np.float32)


# Where something is: true inside it.
Mask: TypeAlias = NDArray[np.bool_]
