"""Shape annotations: jaxtyping where it is installed, nothing where it is not.

`model/` must run on a bare GPU machine that has torch, numpy and h5py alone, so the annotations may not be a hard
dependency. The tests have jaxtyping and check every annotated shape with beartype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class _Unchecked:
            """Stands where a jaxtyping dtype would: `Float[np.ndarray, "n 3"]` is then plain `Any`."""

            def __class_getitem__(cls, item: object) -> Any:
                return Any

        Bool = Float = Int = Shaped = UInt8 = _Unchecked
