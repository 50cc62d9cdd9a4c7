"""What a program of StableHLO would do: which operations, how often, on how many numbers.

It is read, never run; each loop's turns must be seen, and each rule that is broken is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from inzitu.learn.admission import ShipmentError, ShipmentLimits

# fmt: off
OPERATIONS = frozenset({
    "abs", "add", "and", "atan2", "bitcast_convert", "broadcast", "broadcast_in_dim", "case", "cbrt", "ceil", "clamp",
    "compare", "composite", "concatenate", "constant", "convert", "convolution", "cosine", "count_leading_zeros",
    "custom_call", "divide", "dot_general", "dynamic_broadcast_in_dim", "dynamic_conv", "dynamic_gather",
    "dynamic_iota", "dynamic_pad", "dynamic_reshape", "dynamic_slice", "dynamic_update_slice", "exponential",
    "exponential_minus_one", "floor", "gather", "get_dimension_size", "get_tuple_element", "if", "iota", "is_finite",
    "log", "log_plus_one", "logistic", "maximum", "minimum", "multiply", "negate", "not", "optimization_barrier",
    "or", "pad", "popcnt", "power", "real", "real_dynamic_slice", "reduce", "reduce_precision", "reduce_window",
    "remainder", "reshape", "return", "reverse", "round_nearest_afz", "round_nearest_even", "rsqrt", "scatter",
    "select", "select_and_scatter", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sine",
    "slice", "sort", "sqrt", "subtract", "tan", "tanh", "transpose", "tuple", "while", "xor",
})
# fmt: on
# JAX's own assertions of shapes; the factorisation behind orthogonal first parameters.
CUSTOM_CALLS = frozenset({"shape_assertion"})
CUSTOM_CALLS_INITIAL = CUSTOM_CALLS | {
    "lapack_sgeqrf_ffi",
    "lapack_sorgqr_ffi",
    "cusolver_geqrf_ffi",
    "cusolver_orgqr_ffi",
}
NUMBERS = frozenset(
    {"f32", "bf16", "f16", "i1", *(f"{sign}{bits}" for sign in ("i", "ui") for bits in (8, 16, 32, 64))}
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a piece of program does: operations and floating-point operations, each as often as it runs."""

    operations: int = 0
    flops: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.flops + other.flops)

    def times(self, count: int) -> Work:
        """Give the work of so many repetitions."""
        return Work(self.operations * count, self.flops * count)


class Program:
    """A module of StableHLO, walked from its main function; each function is looked at once."""

    def __init__(self, name: str, module: ir.Module, *, calls: frozenset[str], limits: ShipmentLimits) -> None:
        self.name, self.calls, self.limits = name, calls, limits
        self.functions = {_string(op.attributes["sym_name"]): op for op in module.body.operations}
        self.done: dict[str, Work | None] = {}
        self.constants = 0

    def work(self) -> Work:
        """Give the work of the whole program, or say which rule it breaks."""
        for function in self.functions:
            self._function(function)
        return self._function("main")

    def _function(self, symbol: str) -> Work:
        if symbol not in self.functions:
            raise self._refused(f"calls {symbol!r}, which it does not hold")
        if symbol not in self.done:
            self.done[symbol] = None
            self.done[symbol] = self._regions(self.functions[symbol])
        work = self.done[symbol]
        if work is None:
            raise self._refused(f"function {symbol!r} calls itself")
        return work

    def _regions(self, operation: Any) -> Work:
        work = Work()
        for inner in _inside(operation):
            work += self._operation(inner)
            if work.operations > self.limits.operations:
                raise self._refused(f"runs more than {self.limits.operations} operations")
        return work

    def _operation(self, operation: Any) -> Work:
        dialect, _, name = operation.operation.name.partition(".")
        self._check_numbers(operation, name)
        if dialect == "func" and name in ("call", "return"):
            return self._function(_string(operation.attributes["callee"])) if name == "call" else Work()
        if dialect == "chlo" or (dialect == "stablehlo" and name in OPERATIONS):
            return Work(1, _flops(operation, name)) + self._held(operation, name)
        raise self._refused(f"has the operation {operation.operation.name}, which is not allowed")

    def _held(self, operation: Any, name: str) -> Work:
        """Give the work of what an operation calls or repeats."""
        match name:
            case "custom_call":
                target = _string(operation.attributes["call_target_name"])
                if target not in self.calls:
                    raise self._refused(f"calls foreign code, {target!r}")
                return Work()
            case "composite":
                return self._function(_string(operation.attributes["decomposition"]))
            case "while":
                return self._regions(operation).times(self._turns(operation))
            case "case" | "if":
                # One of the branches runs; which is not known here.
                branches = [sum(map(self._operation, _region(r)), Work()) for r in operation.regions]
                return max(branches, key=lambda work: (work.flops, work.operations), default=Work())
            case _:
                # The small regions of a reduction, a sort or a scatter.
                return self._regions(operation)

    def _turns(self, operation: Any) -> int:
        """Give how often a loop runs, which must be seen: a counter below a constant, raised by a constant."""
        try:
            return _counted(operation)
        except LookupError as error:
            raise self._refused(
                f"has a while loop whose end cannot be seen ({error}); use lax.scan, lax.map or lax.fori_loop with a "
                "fixed number of turns"
            ) from None

    def _check_numbers(self, operation: Any, name: str) -> None:
        """Refuse numbers of other types, arrays beyond the memory, and constants that should be parameters."""
        for result in operation.results:
            kind, size = _array(result.type, self.limits.batch)
            if kind not in NUMBERS:
                raise self._refused(f"computes in {kind} ({name}); float32, bfloat16 and integers are allowed")
            if size > self.limits.memory:
                raise self._refused(
                    f"makes an array of {size:.4g} bytes ({name}); {self.limits.memory:.4g} are allowed"
                )
            if name == "constant":
                self.constants += size
        if self.constants > self.limits.constant:
            raise self._refused(f"holds constants of more than {self.limits.constant:.4g} bytes; make them parameters")

    def _refused(self, reason: str) -> ShipmentError:
        return ShipmentError(f"The network's {self.name} program {reason}.")


def _inside(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        yield from _region(region)


def _region(region: Any) -> Iterator[Any]:
    for block in region.blocks:
        yield from block.operations


def _array(kind: Any, batch: int) -> tuple[str, int]:
    """Give the type of an array's numbers and its size [byte]; a size that is not known counts as `batch`."""
    if not isinstance(kind, ir.RankedTensorType):
        return str(kind), 0
    number = str(kind.element_type)
    sizes = [_size(kind, i, unknown=batch) for i in range(kind.rank)]
    bits = int("".join(filter(str.isdigit, number)) or 64)
    return number, math.prod(sizes) * max(bits, 8) // 8


def _elements(kind: Any) -> int:
    if not isinstance(kind, ir.RankedTensorType):
        return 0
    return math.prod(_size(kind, i) for i in range(kind.rank))


def _size(kind: Any, axis: int, *, unknown: int = 1) -> int:
    return unknown if kind.is_dynamic_dim(axis) else int(kind.get_dim_size(axis))


def _flops(operation: Any, name: str) -> int:
    """Give the floating-point operations, two for each multiplication and addition."""
    out = sum(_elements(result.type) for result in operation.results)
    match name:
        case "dot_general":
            numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
            shape = operation.operands[0].type
            return 2 * out * math.prod(_size(shape, i) for i in numbers.lhs_contracting_dimensions)
        case "convolution":
            where = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
            kernel = operation.operands[1].type
            return 2 * out * _elements(kernel) // max(_size(kernel, where.kernel_output_feature_dimension), 1)
        case "reduce" | "reduce_window" | "select_and_scatter" | "scatter" | "sort":
            return out + sum(_elements(operand.type) for operand in operation.operands)
        case _:
            return out


def _counted(operation: Any) -> int:
    """Give the number of turns of a counted loop.

    Raises
    ------
    LookupError
        It is none.
    """
    condition, body = (region.blocks[0] for region in operation.regions)
    compared = _producer(condition.operations[len(condition.operations) - 1].operands[0], condition, "compare")
    direction = str(compared.attributes["comparison_direction"])
    if "LT" not in direction:
        raise LookupError("its condition is no upper limit")
    index = _argument(compared.operands[0], condition)
    raised = _producer(body.operations[len(body.operations) - 1].operands[index], body, "add")
    if _argument(raised.operands[0], body) != index:
        raise LookupError("its counter does not count")
    highest = _highest(ir.RankedTensorType(compared.operands[0].type).element_type)
    step, first, last = (
        _number(value) for value in (raised.operands[1], operation.operands[index], compared.operands[1])
    )
    if step <= 0:
        raise LookupError("its counter does not rise")
    turns = max(0, -(-(last - first) // step))
    if first + turns * step > highest:
        raise LookupError("its counter passes the largest number of its type and begins anew below")
    return turns


def _highest(kind: Any) -> int:
    """Give the largest number of a type of integers."""
    if not isinstance(kind, ir.IntegerType):
        raise LookupError("its counter is no integer")
    return int(2 ** (kind.width - (0 if kind.is_unsigned else 1))) - 1


def _producer(value: Any, block: Any, name: str) -> Any:
    """Give the operation of a block that made a value."""
    for operation in block.operations:
        if operation.operation.name == f"stablehlo.{name}" and value in list(operation.results):
            return operation
    raise LookupError(f"no {name} decides")


def _argument(value: Any, block: Any) -> int:
    for index, argument in enumerate(block.arguments):
        if argument == value:
            return index
    raise LookupError("its counter is computed")


def _number(value: Any) -> int:
    """Give a constant's whole number."""
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "stablehlo.constant":
        raise LookupError("a limit is no constant")
    attribute = ir.DenseIntElementsAttr(owner.attributes["value"])
    return int(attribute[0])


def _string(attribute: Any) -> str:
    return str(attribute.value)
