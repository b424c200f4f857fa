"""Texts of others are shown whole, and as text."""

from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from tailforge.schemas.documents.shown import is_seen, visible


@given(st.text())
@example("\x00\x1b[2J")
@example("\ufffe\uffff\U0001ffff")
@example("\ud800")
def test_visible_text_can_stand_in_xml(text: str) -> None:
    element = ElementTree.Element("name")
    element.text = shown = visible(text)
    assert ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8")).text in (shown, None)
    assert (shown == text) == is_seen(text.replace("\n", "").replace("\t", ""))
