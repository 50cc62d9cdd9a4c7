from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument

from inzitu.prov import drawings
from inzitu.prov.documents import Shown, document
from inzitu.prov.drawings import draw, to_dot
from inzitu.prov.formats import FORMATS, Format, format_of, read, write
from inzitu.prov.lineage import lineage
from inzitu.prov.recorder import Recorder
from record.sample import Road

TEXT_FORMATS = [format for format in FORMATS if format.library]
needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")

MALFORMED = {
    "PROV-JSON": [
        b"{",
        b"[]",
        b"null",
        b'"entity"',
        b'{"entity": 3}',
        b'{"entity": {"a:b": {}}}',
        b'{"activity": {"ex:a": {"prov:startTime": "yesterday"}}, "prefix": {"ex": "http://x/"}}',
        b'{"used": {"_:1": {"prov:activity": {}}}}',
        b'{"prefix": 1}',
        b"[" * 100_000,
    ],
    "PROV-N": [
        b"",
        b"entity(a)",
        b"document entity(a:b) endDocument",
        b"document entity( endDocument",
        b"document prefix a <http://x/> entity(a:b, [prov:value=]) endDocument",
        b"document prefix a <http://x/ endDocument",
        b"document activity(a, yesterday, -) endDocument",
    ],
    "PROV-XML": [
        b"",
        b"<a>",
        b"<document/>",
        b'<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        b'<prov:document xmlns:prov="http://www.w3.org/ns/prov#">&e;</prov:document>',
        b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
        b'<prov:document xmlns:prov="http://www.w3.org/ns/prov#">&b;</prov:document>',
        b'<prov:document xmlns:prov="http://www.w3.org/ns/prov#"><prov:entity prov:id="a:b"/></prov:document>',
    ],
    "turtle": [b"a b", b"@prefix a: <http://x/> . a:b a:c", b"<"],
}


def corpus() -> Iterator[tuple[str, bytes]]:
    for name, contents in MALFORMED.items():
        yield from product([name], contents)
    for format in TEXT_FORMATS:
        yield from product([format.name], [b"\xff\xfe\x00", b"\x00" * 9])


@pytest.mark.parametrize(("name", "content"), list(corpus()))
def test_what_is_no_document_is_refused_in_words(name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=f"the document is no {name}"):
        read(content, format_of(name))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode), format=st.sampled_from(TEXT_FORMATS))
def test_no_bytes_make_the_reader_fail_otherwise(content: bytes, format: Format) -> None:
    with suppress(ValueError):
        assert isinstance(read(content, format), ProvDocument)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), format=st.sampled_from(TEXT_FORMATS))
def test_nor_do_damaged_documents(data: st.DataObject, format: Format) -> None:
    content = bytearray(write(small(), format))
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        read(bytes(content), format)


def small() -> ProvDocument:
    document = ProvDocument()
    document.add_namespace("ex", "http://example.org/")
    document.entity("ex:e", {"prov:label": 'a "quoted" \\ label\n<&>'})
    document.activity("ex:a")
    document.generation("ex:e", "ex:a")
    return document


def test_a_format_has_many_names() -> None:
    assert format_of("PROV-N") == format_of("prov-n") == format_of("provn") == format_of("text/provenance-notation")
    assert format_of("text/turtle; charset=utf-8").name == "turtle"
    with pytest.raises(ValueError, match="PROV-JSON, PROV-N, PROV-XML, turtle, PROV-SVG, PROV-PNG"):
        format_of("PROV-YAML")


@needs_graphviz
def test_a_record_is_drawn(recorder: Recorder, road: Road) -> None:
    found = document(lineage(recorder, road["scores"].id), shown=Shown(descriptions=False, configuration=False))
    svg = write(found, format_of("PROV-SVG")).decode()
    assert all(f">{word}<" in svg for word in ("select", "cut", "train", "predict", "evaluate", "scores.txt"))
    assert write(found, format_of("PROV-PNG")).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="cannot be read back"):
        read(svg.encode(), format_of("PROV-SVG"))


@needs_graphviz
def test_no_label_breaks_out_of_the_drawing() -> None:
    evil = ProvDocument()
    evil.add_namespace("ex", "http://example.org/")
    evil.entity("ex:e", {"prov:label": '"]; evil [label="x\\'})
    assert "&quot;]; evil [label=&quot;x\\" in draw(evil, "svg").decode()


def test_arrows_join_what_is_in_the_document() -> None:
    document = small()
    document.usage("ex:a", "ex:elsewhere")
    assert to_dot(document).count("->") == 1


def test_a_graph_that_nobody_can_read_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "MOST_NODES", 1)
    with pytest.raises(ValueError, match="2 nodes and at most 1"):
        draw(small(), "svg")


def test_without_graphviz_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="need Graphviz"):
        draw(small(), "svg")
