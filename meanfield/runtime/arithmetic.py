"""Operations that Python lacks and processors have, for compiled code."""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic


@intrinsic
def fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a·b + c rounded once, float64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), generate
