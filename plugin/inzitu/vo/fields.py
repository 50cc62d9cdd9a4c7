"""A field of a table: its name, its VOTable type and what it means; and how that stands in Arrow.

Arrow carries the meaning of a column in the metadata of its field, under the keys of `MEANINGS`. Types go both ways:
`field_of` says how an Arrow column is served, `arrow_type` what the column is cast to before it is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

MEANINGS = ("unit", "ucd", "utype", "xtype", "description")
"""Keys of an Arrow field's metadata that say what the column means."""

_SCALARS: tuple[tuple[str, pa.DataType], ...] = (
    ("boolean", pa.bool_()),
    ("unsignedByte", pa.uint8()),
    ("short", pa.int16()),
    ("int", pa.int32()),
    ("long", pa.int64()),
    ("float", pa.float32()),
    ("double", pa.float64()),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A column as VOTable and TAP_SCHEMA describe it (VOTable 1.4, section 4.1)."""

    name: str
    datatype: str
    arraysize: str | None = None
    unit: str | None = None
    ucd: str | None = None
    utype: str | None = None
    xtype: str | None = None
    description: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return self.datatype in ("char", "unicodeChar")

    @property
    def length(self) -> int | None:
        """Elements of each value, where all have the same; None for scalars, strings and variable arrays."""
        return int(self.arraysize) if self.arraysize and self.arraysize.isdigit() and not self.is_text else None

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type that the values are cast to before they are written."""
        if self.is_text:
            return pa.string()
        scalar = dict(_SCALARS)[self.datatype]
        return scalar if self.arraysize is None else pa.list_(scalar)

    def arrow(self) -> pa.Field:
        """Return the Arrow field that carries the same meaning."""
        metadata = {key: value for key in MEANINGS if (value := getattr(self, key))}
        arrow_type = pa.list_(self.arrow_type.value_type, self.length) if self.length else self.arrow_type
        return pa.field(self.name, arrow_type, metadata=metadata)


def field_of(field: pa.Field) -> Field:
    """Return how an Arrow field is served, with the meaning that its metadata gives."""
    datatype, arraysize, xtype = _votable_type(field.type)
    given = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    meaning = {"xtype": xtype} | {key: given[key] for key in MEANINGS if given.get(key)}
    return Field(field.name, datatype, arraysize, **meaning)


def _votable_type(arrow: pa.DataType) -> tuple[str, str | None, str | None]:
    """Return datatype, arraysize and xtype for an Arrow type; what VOTable cannot hold is served as text."""
    if pa.types.is_dictionary(arrow):
        return _votable_type(arrow.value_type)
    if pa.types.is_fixed_size_list(arrow) and _is_number(arrow.value_type):
        return _scalar(arrow.value_type), str(arrow.list_size), None
    if (pa.types.is_list(arrow) or pa.types.is_large_list(arrow)) and _is_number(arrow.value_type):
        return _scalar(arrow.value_type), "*", None
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        return "char", "*", "timestamp"
    if pa.types.is_boolean(arrow) or _is_number(arrow):
        return _scalar(arrow), None, None
    return "char", "*", None


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def _scalar(arrow: pa.DataType) -> str:
    """Return the narrowest VOTable datatype that holds every value of an Arrow scalar type."""
    match str(arrow):
        case "bool":
            return "boolean"
        case "uint8":
            return "unsignedByte"
        case "int8" | "int16":
            return "short"
        case "uint16" | "int32":
            return "int"
        case "uint32" | "int64" | "uint64":
            return "long"
        case "halffloat" | "float":
            return "float"
        case _:
            return "double"
