"""The documents by which a TAP service describes itself: capabilities, tables, examples.

TAPRegExt 1.0, VODataService 1.2, DALI 1.1, section 2.3.

What they say comes from the same tables of functions, formats and limits that the service works by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from pydantic import AnyUrl
from vo_models.tapregext import (
    DataLimit,
    DataLimits,
    Language,
    LanguageFeature,
    LanguageFeatureList,
    OutputFormat,
    TableAccess,
    TimeLimits,
    UploadMethod,
    Version,
)
from vo_models.voresource.models import AccessURL, Capability, Interface
from vo_models.vosi.capabilities.models import VOSICapabilities

from inzitu.vo.fields import Field
from inzitu.vo.outputs import OUTPUTS

_STD = "ivo://ivoa.net/std"
_FEATURES = f"{_STD}/TAPRegExt#features"
_NAMESPACES = {
    "xmlns:vosi": "http://www.ivoa.net/xml/VOSITables/v1.0",
    "xmlns:vs": "http://www.ivoa.net/xml/VODataService/v1.1",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapLimits:
    """The limits of a service, each as its default and the most that can be asked for."""

    rows: tuple[int, int]
    upload_bytes: int
    execution_seconds: tuple[int, int]
    retention_seconds: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """A column in the tables document: its field under the name that a query writes, and its flags."""

    name: str
    field: Field
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribedTable:
    """A table in the tables document."""

    schema: str
    name: str
    description: str | None
    rows: int | None
    columns: tuple[DescribedColumn, ...]
    keys: tuple[tuple[str, str, str, str], ...] = ()
    """Foreign keys: target table, column here, column there, description."""


def capabilities(
    base: str, *, limits: TapLimits, functions: Iterable[tuple[str, str]], optional: Mapping[str, Sequence[str]]
) -> bytes:
    """Return the capabilities document.

    Parameters
    ----------
    base
        Address of the service, up to and with /tap.
    limits
        What one query may ask for.
    functions
        Form and description of each user-defined function.
    optional
        Forms offered of each optional group of ADQL 2.1, by the group's name.
    """
    endpoints = {"VOSI#capabilities": "capabilities", "VOSI#availability": "availability", "VOSI#tables-1.1": "tables"}
    plain = [
        Capability(standard_id=AnyUrl(f"{_STD}/{standard}"), interface=[_interface(f"{base}/{path}", "full")])
        for standard, path in endpoints.items()
    ]
    examples = Capability(
        standard_id=AnyUrl(f"{_STD}/DALI#examples"),
        interface=[
            Interface(type="vr:WebBrowser", access_url=[AccessURL(value=AnyUrl(f"{base}/examples"), use="full")])
        ],
    )
    access = TableAccess(
        interface=[_interface(base, "base", role="std", version="1.1")],
        language=[_adql(functions, optional)],
        output_format=[OutputFormat(mime=o.media_type, alias=list(o.aliases), ivo_id=o.standard) for o in OUTPUTS],
        upload_method=[UploadMethod(ivo_id=f"{_STD}/TAPRegExt#upload-{way}") for way in ("inline", "http", "https")],
        retention_period=_seconds(limits.retention_seconds),
        execution_duration=_seconds(limits.execution_seconds),
        output_limit=DataLimits(
            default=DataLimit(value=limits.rows[0], unit="row"), hard=DataLimit(value=limits.rows[1], unit="row")
        ),
        upload_limit=DataLimits(hard=DataLimit(value=limits.upload_bytes, unit="byte")),
    )
    document = VOSICapabilities(capability=[access, *plain, examples])
    content = document.to_xml(skip_empty=True, encoding="UTF-8", xml_declaration=True)
    return content if isinstance(content, bytes) else content.encode()


def _interface(url: str, use: Literal["full", "base"], *, role: str = "std", version: str | None = None) -> Interface:
    return Interface(
        type="vs:ParamHTTP", role=role, version=version, access_url=[AccessURL(value=AnyUrl(url), use=use)]
    )


def _adql(functions: Iterable[tuple[str, str]], optional: Mapping[str, Sequence[str]]) -> Language:
    own = [LanguageFeature(form=form, description=description) for form, description in functions]
    groups = [LanguageFeatureList(type=f"{_FEATURES}-udf", feature=own)]
    groups += [
        LanguageFeatureList(type=f"{_FEATURES}-{group}", feature=[LanguageFeature(form=form) for form in forms])
        for group, forms in optional.items()
    ]
    return Language(
        name="ADQL",
        version=[Version(value=number, ivo_id=f"{_STD}/ADQL#v{number}") for number in ("2.1", "2.0")],
        description="Astronomical Data Query Language; all coordinates are ICRS, in degrees.",
        language_features=groups,
    )


def _seconds(values: tuple[int, int]) -> TimeLimits:
    return TimeLimits(default=values[0], hard=values[1])


def tables(described: Sequence[DescribedTable], schemas: Mapping[str, str], *, detail: bool = True) -> bytes:
    """Return the tables document.

    vo-models escapes descriptions twice, so this document is built element by element.

    Parameters
    ----------
    described
        The tables.
    schemas
        Description of each schema.
    detail
        Whether to list the columns; without, VOSI's detail=min.
    """
    root = ET.Element("vosi:tableset", _NAMESPACES | {"xsi:type": "vs:TableSet"})
    for schema in dict.fromkeys(table.schema for table in described):
        element = ET.SubElement(root, "schema")
        _texts(element, name=schema, description=schemas.get(schema))
        for table in described:
            if table.schema == schema:
                _add_table(element, table, detail)
    return _serialised(root)


def table(described: DescribedTable) -> bytes:
    """Return the document of one table."""
    root = ET.Element("vosi:table", _NAMESPACES | {"xsi:type": "vs:Table"})
    _fill_table(root, described, True)
    return _serialised(root)


def _serialised(root: ET.Element) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(ET.tostring(root, encoding="utf-8"))


def _add_table(parent: ET.Element, described: DescribedTable, detail: bool) -> None:
    _fill_table(ET.SubElement(parent, "table", type="table"), described, detail)


def _fill_table(element: ET.Element, described: DescribedTable, detail: bool) -> None:
    rows = None if described.rows is None else str(described.rows)
    _texts(element, name=described.name, description=described.description, nrows=rows)
    for column in described.columns if detail else ():
        _add_column(ET.SubElement(element, "column"), column)
    for target, own, other, description in described.keys if detail else ():
        key = ET.SubElement(element, "foreignKey")
        _texts(key, targetTable=target)
        _texts(ET.SubElement(key, "fkColumn"), fromColumn=own, targetColumn=other)
        _texts(key, description=description)


def _add_column(element: ET.Element, column: DescribedColumn) -> None:
    field = column.field
    _texts(element, name=column.name, description=field.description, unit=field.unit, ucd=field.ucd, utype=field.utype)
    attributes = {"xsi:type": "vs:VOTableType"}
    if field.arraysize:
        attributes["arraysize"] = field.arraysize
    if field.xtype:
        attributes["extendedType"] = field.xtype
    ET.SubElement(element, "dataType", attributes).text = field.datatype
    for flag in column.flags:
        ET.SubElement(element, "flag").text = flag


def _texts(element: ET.Element, **texts: str | None) -> None:
    for name, text in texts.items():
        if text:
            ET.SubElement(element, name).text = text


def examples(items: Iterable[tuple[str, str, str, str]]) -> bytes:
    """Return the examples document: XHTML with the RDFa of DALI 1.1, section 2.3.

    Parameters
    ----------
    items
        Identifier, name, query and a sentence of explanation.
    """
    html = ET.Element("html", xmlns="http://www.w3.org/1999/xhtml")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "title").text = "Examples of queries"
    body = ET.SubElement(html, "body", vocab="http://www.ivoa.net/rdf/examples#")
    ET.SubElement(body, "h1").text = "Examples of queries"
    for identifier, name, query, text in items:
        example = ET.SubElement(body, "div", typeof="example", id=identifier, resource=f"#{identifier}")
        ET.SubElement(example, "h2", property="name").text = name
        ET.SubElement(example, "p", property="description").text = text
        ET.SubElement(example, "pre", property="query").text = query
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(ET.tostring(html, encoding="utf-8"))
