"""The innermost loops, written in LLVM's vector types: a few register tiles that do all the arithmetic of a step.

Particles lie along the lanes of 512-bit vectors (L = 16 float32 or 8 float64 lanes; LLVM splits a vector where the
processor's are shorter), GROUP = 4·L particles side by side. Every particle is thus computed alone, in an order that
neither the vector width nor the shape of a tile can change, and every multiply-add is an explicit `fma`: same bits
wherever the code runs. What a compiler's own vectorizer reaches here is about half, since it keeps the accumulators of
a product in memory; these tiles keep them in registers:

    dots      A[i, lane] = Σ_k x[i, k] θ[k, lane]     4 rows × 4 vectors: 16 accumulators, 8 loads for 16 fma
    products  G[k, lane] += Σ_i x[i, k] s[i, lane]    up to 24 features × 1 vector: one broadcast load for each fma
                                                      or up to 6 × 4

With one output the product's s is a bit times the residual, so half of the features (even k) take a masked add of the
precomputed r·x and the other half a masked fma: processors with separate adders (AMD Zen) run both at once, faster than
a matrix product may.

All functions here are numba intrinsics: pointers in (`place`), results stored in place, nothing checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic

VECTORS = 4  # vectors in a group of particles
ROWS = 4  # data rows in a tile of dots


def has_wide_vectors() -> bool:
    """Whether compiled code may use 512-bit registers (the processor's features, or NUMBA_CPU_FEATURES)."""
    features = numba.config.CPU_FEATURES
    return "+avx512f" in features if features else bool(binding.get_host_cpu_features().get("avx512f", False))


# 32 registers hold 24 accumulators or 4 × 4 of them; 16 half as wide ones hold a quarter.
MAX_FEATURES = 24 if has_wide_vectors() else 6
_TILE = VECTORS if has_wide_vectors() else 1

_I64 = ir.IntType(64)


def lanes(dtype: Any) -> int:
    """Number of lanes of a 512-bit vector of `dtype` (a numpy or numba floating type)."""
    return 512 // int(getattr(dtype, "bitwidth", 0) or 8 * dtype.itemsize)


class _Emit:
    """An LLVM builder with the few vector operations that the tiles need."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.b, self._context = builder, context
        self.scalar = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.lanes = lanes(dtype)
        self.group = VECTORS * self.lanes
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.bits = ir.IntType(self.lanes)
        self.zero = ir.Constant(self.vector, None)
        name = f"llvm.fma.v{self.lanes}f{dtype.bitwidth}"
        existing = builder.module.globals.get(name)
        self._fma = existing or ir.Function(builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def at(self, pointer: Any, *terms: Any) -> Any:
        """Pointer moved by the sum of the terms (elements); a pair (a, b) stands for a·b."""
        offset: Any = _I64(0)
        for term in terms:
            a, b = term if isinstance(term, tuple) else (term, 1)
            a, b = (_I64(v) if isinstance(v, int) else v for v in (a, b))
            offset = self.b.add(offset, self.b.mul(a, b))
        return self.b.gep(pointer, [offset])

    def load(self, pointer: Any, kind: Any = None) -> Any:
        value = self.b.load(self.b.bitcast(pointer, (kind or self.vector).as_pointer()))
        value.align = 1 if kind is self.bits else 4
        return value

    def store(self, value: Any, pointer: Any) -> None:
        done = self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer()))
        done.align = 1 if value.type is self.bits else 4

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.b.call(self._fma, [a, b, c])

    def broadcast(self, pointer: Any) -> Any:
        """The number at `pointer` in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, self.b.load(pointer), ir.IntType(32)(0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None))

    def mask(self, bits: Any) -> Any:
        return self.b.bitcast(bits, ir.VectorType(ir.IntType(1), self.lanes))

    def loop(self, count: Any, start: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """`count` > 0 times start ← body(i, start), the values kept in registers; returns the last ones."""
        before, inside = self.b.block, self.b.append_basic_block("loop")
        after = self.b.append_basic_block("after")
        self.b.branch(inside)
        self.b.position_at_end(inside)
        i = self.b.phi(_I64)
        i.add_incoming(_I64(0), before)
        held = [self.b.phi(value.type) for value in start]
        for phi, value in zip(held, start, strict=True):
            phi.add_incoming(value, before)
        result = body(i, list(held))
        following = self.b.add(i, _I64(1))
        i.add_incoming(following, self.b.block)
        for phi, value in zip(held, result, strict=True):
            phi.add_incoming(value, self.b.block)
        self.b.cbranch(self.b.icmp_signed("<", following, count), inside, after)
        self.b.position_at_end(after)
        return result

    def nothing(self) -> Any:
        return self._context.get_dummy_value()


def _dots(e: _Emit, x: Any, theta: Any, d: Any, vectors: range, start: list[Any] | None = None) -> list[list[Any]]:
    """A[row][vector] for ROWS rows, from `start` or zero: x points at (d, ROWS), theta at (d, GROUP)."""
    width = len(vectors)

    def body(k: Any, held: list[Any]) -> list[Any]:
        t = [e.load(e.at(theta, (k, e.group), v * e.lanes)) for v in vectors]
        xs = [e.broadcast(e.at(x, (k, ROWS), row)) for row in range(ROWS)]
        return [e.fma(xs[i // width], t[i % width], held[i]) for i in range(ROWS * width)]

    flat = e.loop(d, start or [e.zero] * (ROWS * width), body)
    return [flat[row * width : (row + 1) * width] for row in range(ROWS)]


def _subtiles() -> list[range]:
    return [range(v, v + _TILE) for v in range(0, VECTORS, _TILE)]


@intrinsic
def place(typingctx, array, offset):  # type: ignore[no-untyped-def]
    """A pointer to element `offset` of a C-contiguous array, counted flat: what the other intrinsics take.

    It does not keep the array alive: take it only of an array that the caller holds, such as an argument.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return types.CPointer(array.dtype)(array, offset), generate  # type: ignore[attr-defined]


@intrinsic
def forward(typingctx, x, theta, d, bits, sums):  # type: ignore[no-untyped-def]
    """One output: activation bits of ROWS rows × GROUP particles, and sums[row, lane] += w relu(u·x).

    x (d, ROWS); theta (d + 1, GROUP), the output weight last; bits (ROWS, VECTORS), L each; sums (ROWS, L).
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[1].dtype)
        x, t, d, out, total = args
        out = builder.bitcast(out, e.bits.as_pointer())
        for vectors in _subtiles():
            a = _dots(e, x, t, d, vectors)
            w = [e.load(e.at(t, (d, e.group), v * e.lanes)) for v in vectors]
            for row in range(ROWS):
                s = e.load(e.at(total, row * e.lanes))
                for j, v in enumerate(vectors):
                    on = builder.fcmp_ordered(">", a[row][j], e.zero)
                    e.store(builder.bitcast(on, e.bits), e.at(out, row * VECTORS + v))
                    s = e.fma(builder.select(on, a[row][j], e.zero), w[j], s)
                e.store(s, e.at(total, row * e.lanes))
        return e.nothing()

    return types.void(x, theta, d, bits, sums), generate


def _store_dots(
    kept: Callable[[_Emit, Any], Any], signature: Any, context: Any, builder: Any, args: Any, *, adds: bool = False
) -> Any:
    """z[row, particle] = kept(u·x), or z + u·x, for ROWS rows; x (d, ROWS), theta (d, GROUP), z (ROWS, GROUP)."""
    e = _Emit(context, builder, signature.args[1].dtype)
    x, t, d, z = args
    for vectors in _subtiles():
        places = [e.at(z, row * e.group + v * e.lanes) for row in range(ROWS) for v in vectors]
        a = _dots(e, x, t, d, vectors, [e.load(one) for one in places] if adds else None)
        for row in range(ROWS):
            for j, v in enumerate(vectors):
                e.store(kept(e, a[row][j]), e.at(z, row * e.group + v * e.lanes))
    return e.nothing()


@intrinsic
def dots(typingctx, x, theta, d, z):  # type: ignore[no-untyped-def]
    """z[row, particle] = u·x for ROWS rows: one chain of fma from zero. Shapes as for `rectified`."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _store_dots(lambda e, value: value, signature, context, builder, args)

    return types.void(x, theta, d, z), generate


@intrinsic
def more_dots(typingctx, x, theta, d, z):  # type: ignore[no-untyped-def]
    """z[row, particle] += u·x for ROWS rows: what `dots` began, the chain of fma goes on."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _store_dots(lambda e, value: value, signature, context, builder, args, adds=True)

    return types.void(x, theta, d, z), generate


@intrinsic
def rectified(typingctx, x, theta, d, z):  # type: ignore[no-untyped-def]
    """z[row, particle] = relu(u·x) for ROWS rows; x (d, ROWS), theta (d, GROUP), z (ROWS, GROUP)."""

    def positive(e: _Emit, value: Any) -> Any:
        return e.b.select(e.b.fcmp_ordered(">", value, e.zero), value, e.zero)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _store_dots(positive, signature, context, builder, args)

    return types.void(x, theta, d, z), generate


@intrinsic
def gated(typingctx, r, w, C, z, out):  # type: ignore[no-untyped-def]
    """out[row, particle] = 1[z > 0] Σ_c r[row, c] w[c, particle]; r (C, ROWS), w (C, GROUP), z, out (ROWS, GROUP)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[1].dtype)
        r, w, C, z, out = args
        for vectors in _subtiles():
            s = _dots(e, r, w, C, vectors)
            for row in range(ROWS):
                for j, v in enumerate(vectors):
                    place = row * e.group + v * e.lanes
                    on = builder.fcmp_ordered(">", e.load(e.at(z, place)), e.zero)
                    e.store(builder.select(on, s[row][j], e.zero), e.at(out, place))
        return e.nothing()

    return types.void(r, w, C, z, out), generate


@intrinsic
def readout(typingctx, z, w, C, sums):  # type: ignore[no-untyped-def]
    """sums[row, c, lane] += Σ_vectors z[row] w[c] for ROWS rows; z (ROWS, GROUP), w (C, GROUP), sums (ROWS, C, L)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[1].dtype)
        z, w, C, total = args
        for vectors in _subtiles():
            held = [[e.load(e.at(z, row * e.group + v * e.lanes)) for v in vectors] for row in range(ROWS)]

            def body(c: Any, _: list[Any], vectors: range = vectors, held: Any = held) -> list[Any]:
                ws = [e.load(e.at(w, (c, e.group), v * e.lanes)) for v in vectors]
                for row in range(ROWS):
                    place = e.at(total, (C, row * e.lanes), (c, e.lanes))
                    s = e.load(place)
                    for one, weight in zip(held[row], ws, strict=True):
                        s = e.fma(one, weight, s)
                    e.store(s, place)
                return []

            e.loop(C, [], body)
        return e.nothing()

    return types.void(z, w, C, sums), generate


def _product(
    e: _Emit, width: Any, x: Any, rows: Any, G: Any, step: Callable[[Any, Any, list[Any]], list[Any]], vectors: int = 1
) -> None:
    """G[k, lane] += what `step(i, x_i, accumulators (k, vector))` gathers over the rows, `width` (even) k at once."""
    after = e.b.append_basic_block("gathered")
    choose = e.b.switch(width, after)
    for K in range(2, MAX_FEATURES // vectors + 1, 2):
        block = e.b.append_basic_block(f"features{K}")
        choose.add_case(_I64(K), block)
        e.b.position_at_end(block)
        # Each call starts from zero and adds to G at its end: sums over many rows are then taken in two levels.
        start = [e.zero] * (K * vectors)
        total = e.loop(rows, start, lambda i, held, K=K: step(i, e.at(x, (i, K)), held))  # type: ignore[misc]
        for k in range(K):
            for v in range(vectors):
                place = e.at(G, k * e.group + v * e.lanes)
                e.store(e.b.fadd(e.load(place), total[k * vectors + v]), place)
        e.b.branch(after)
    e.b.position_at_end(after)


@intrinsic
def masked_product(typingctx, width, x, bits, r, rows, G):  # type: ignore[no-untyped-def]
    """G[k, lane] += Σ_i bit[i, lane] r_i x[i, k] for one vector of particles.

    x (rows, width) holds r_i x_ik for even k and x_ik for odd k; bits (rows, VECTORS); r (rows,); G (width, GROUP).
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[5].dtype)
        width, first, bits, residual, rows, G = args
        on = builder.bitcast(bits, e.bits.as_pointer())

        def step(i: Any, x: Any, held: list[Any]) -> list[Any]:
            mask = e.mask(e.load(e.at(on, (i, VECTORS)), e.bits))
            s = builder.select(mask, e.broadcast(e.at(residual, i)), e.zero)
            xs = [e.broadcast(e.at(x, k)) for k in range(len(held))]
            return [
                e.fma(s, xs[k], held[k]) if k % 2 else builder.select(mask, builder.fadd(held[k], xs[k]), held[k])
                for k in range(len(held))
            ]

        _product(e, width, first, rows, G, step)
        return e.nothing()

    return types.void(width, x, bits, r, rows, G), generate


def _dense_product(vectors: int) -> Any:
    """G[k, lane] += Σ_i s[i, lane] x[i, k] for so many vectors of particles; x (rows, width), s (rows, GROUP)."""

    @intrinsic
    def product(typingctx, width, x, s, rows, G):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            e = _Emit(context, builder, signature.args[4].dtype)
            width, first, s, rows, G = args

            def step(i: Any, x: Any, held: list[Any]) -> list[Any]:
                values = [e.load(e.at(s, (i, e.group), v * e.lanes)) for v in range(vectors)]
                xs = [e.broadcast(e.at(x, k)) for k in range(len(held) // vectors)]
                return [e.fma(values[j % vectors], xs[j // vectors], one) for j, one in enumerate(held)]

            _product(e, width, first, rows, G, step, vectors)
            return e.nothing()

        return types.void(width, x, s, rows, G), generate

    return product


NARROW = MAX_FEATURES // VECTORS  # one vector of so few sums would wait for each of them: all vectors go together
dense_product, narrow_product = _dense_product(1), _dense_product(VECTORS)


@intrinsic
def lane_sum(typingctx, vector):  # type: ignore[no-untyped-def]
    """Sum of L lanes, in float64, as a tree."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[0].dtype)
        value, count = e.load(args[0]), e.lanes
        if e.scalar is not ir.DoubleType() and e.lanes == 16:
            value = builder.fpext(value, ir.VectorType(ir.DoubleType(), count))
        while count > 1:
            count //= 2
            index = ir.VectorType(ir.IntType(32), count)
            halves = [ir.Constant(index, list(range(s, s + count))) for s in (0, count)]
            undefined = ir.Constant(value.type, ir.Undefined)
            value = builder.fadd(*[builder.shuffle_vector(value, undefined, half) for half in halves])
        return builder.extract_element(value, ir.IntType(32)(0))

    return types.float64(vector), generate


@intrinsic
def take_ticket(typingctx, counter):  # type: ignore[no-untyped-def]
    """counter[0]++ and its value before, in one indivisible operation: how threads share out blocks."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, _I64(1), "monotonic")

    return types.int64(counter), generate


# ---------------------------------------------------------------------------------------------------------------------
# the implicit step: shares of the kinks


def _subtract(e: _Emit, x: Any, d: Any, shares: list[list[Any]], v: Any, vectors: range) -> None:
    """v[k, lane] −= Σ_row x[k, row] shares[row][lane]; x points at (d, ROWS), v at (d, GROUP)."""
    minus = ir.Constant(e.vector, [ir.Constant(e.scalar, -1.0)] * e.lanes)
    negative = [[e.b.fmul(share, minus) for share in row] for row in shares]

    def body(k: Any, _: list[Any]) -> list[Any]:
        xs = [e.broadcast(e.at(x, (k, ROWS), row)) for row in range(ROWS)]
        for j, vector in enumerate(vectors):
            place = e.at(v, (k, e.group), vector * e.lanes)
            value = e.load(place)
            for row in range(ROWS):
                value = e.fma(xs[row], negative[row][j], value)
            e.store(value, place)
        return []

    e.loop(d, [], body)


@intrinsic
def start_shares(typingctx, x, theta, d, S, alpha, v):  # type: ignore[no-untyped-def]
    """alpha[row] ← 1[u·x > 0] and v −= Σ_row S[row] alpha[row] x_row for ROWS rows; S, alpha (ROWS, GROUP)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[1].dtype)
        x, theta, d, S, alpha, v = args
        one = ir.Constant(e.vector, [ir.Constant(e.scalar, 1.0)] * e.lanes)
        for vectors in _subtiles():
            z, shares = _dots(e, x, theta, d, vectors), []
            for row in range(ROWS):
                places = [(row * e.group + vector * e.lanes) for vector in vectors]
                on = [builder.fcmp_ordered(">", value, e.zero) for value in z[row]]
                for at, mask in zip(places, on, strict=True):
                    e.store(builder.select(mask, one, e.zero), e.at(alpha, at))
                kept = [e.load(e.at(S, at)) for at in places]
                shares.append([builder.select(mask, k, e.zero) for mask, k in zip(on, kept, strict=True)])
            _subtract(e, x, d, shares, v, vectors)
        return e.nothing()

    return types.void(x, theta, d, S, alpha, v), generate


def _settled(e: _Emit, z: Any, s: Any, square: Any, before: Any, awake: Any) -> tuple[Any, Any]:
    """(the share, what it changes of Σ s α x) of one example, whose v·x is z, where s‖x‖² > 0 and the lane is awake."""
    one = ir.Constant(e.vector, [ir.Constant(e.scalar, 1.0)] * e.lanes)
    kappa = e.b.fmul(s, square)
    valley = e.b.and_(e.b.fcmp_ordered(">", kappa, e.zero), awake)
    after = e.b.fadd(before, e.b.fdiv(z, e.b.select(valley, kappa, one)))
    after = e.b.select(e.b.fcmp_ordered(">", after, e.zero), after, e.zero)
    after = e.b.select(e.b.fcmp_ordered("<", after, one), after, one)
    after = e.b.select(valley, after, before)
    return after, e.b.fmul(s, e.b.fsub(after, before))


def _settle_vector(e: _Emit, z: list[Any], at: Any, gram: Any, S: Any, alpha: Any, mask: Any) -> tuple[Any, list[Any]]:
    """(bits of the lanes that changed, the changes of s α) of the ROWS rows for one vector, `at` its place in a row."""
    minus = ir.Constant(e.vector, [ir.Constant(e.scalar, -1.0)] * e.lanes)
    changed, shares, column = e.bits(0), [], list(z)
    for row in range(ROWS):
        place = row * e.group + at
        before, square = e.load(e.at(alpha, place)), e.broadcast(e.at(gram, row * ROWS + row))
        after, share = _settled(e, column[row], e.load(e.at(S, place)), square, before, mask)
        e.store(after, e.at(alpha, place))
        shares.append(share)
        changed = e.b.or_(changed, e.b.bitcast(e.b.fcmp_unordered("!=", after, before), e.bits))
        negative = e.b.fmul(share, minus)
        for other in range(row + 1, ROWS):
            column[other] = e.fma(e.broadcast(e.at(gram, row * ROWS + other)), negative, column[other])
    return changed, shares


@intrinsic
def settle_shares(typingctx, x, gram, S, alpha, awake, d, v):  # type: ignore[no-untyped-def]
    """One turn of coordinate descent over the shares of ROWS rows; 0 if nothing changed.

    v (d, GROUP) is the particle's place with the present shares; gram (ROWS, ROWS) of the rows; S, alpha (ROWS, GROUP);
    awake (VECTORS,), L bits each: the lanes that take part, then those in which something changed.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[6].dtype)
        x, gram, S, alpha, awake, d, v = args
        flags = builder.bitcast(awake, e.bits.as_pointer())
        any_of: Any = _I64(0)
        for vectors in _subtiles():
            z = _dots(e, x, v, d, vectors)
            shares: list[list[Any]] = [[] for _ in range(ROWS)]
            some: Any = _I64(0)
            for j, vector in enumerate(vectors):
                mask, column = e.mask(e.load(e.at(flags, vector), e.bits)), [z[row][j] for row in range(ROWS)]
                changed, steps = _settle_vector(e, column, vector * e.lanes, gram, S, alpha, mask)
                for row in range(ROWS):
                    shares[row].append(steps[row])
                e.store(changed, e.at(flags, vector))
                some = builder.or_(some, builder.zext(changed, _I64))
            any_of = builder.or_(any_of, some)
            with builder.if_then(builder.icmp_unsigned("!=", some, _I64(0))):
                _subtract(e, x, d, shares, v, vectors)
        return any_of

    return types.int64(x, gram, S, alpha, awake, d, v), generate


@intrinsic
def shared_slope(typingctx, x, r, alpha, d, G):  # type: ignore[no-untyped-def]
    """G[k, lane] −= Σ_row r_row alpha[row, lane] x_row,k for ROWS rows; r (ROWS,), G (d, GROUP)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[4].dtype)
        x, r, alpha, d, G = args
        for vectors in _subtiles():
            shares = []
            for row in range(ROWS):
                one = e.broadcast(e.at(r, row))
                values = [e.load(e.at(alpha, row * e.group + vector * e.lanes)) for vector in vectors]
                shares.append([builder.fmul(one, value) for value in values])
            _subtract(e, x, d, shares, G, vectors)
        return e.nothing()

    return types.void(x, r, alpha, d, G), generate
