"""The page as a file: what is in it, and what names that users choose can do in it. How it looks
and works is asked of a real browser in tests/browser."""

import base64
import hashlib
import json
import math
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.document import document
from dashboards.render import PAGE, island, render, render_list, render_notice
from tests.dashboards.made import study

HOSTILE = (
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "]]><img src=x onerror=alert(1)>",
    "\"'`\\ {{ 7*7 }} {% x %} &lt;&amp;",
    "a\u2028b\u2029c\r\nd\te",
    "\u202egnp.exe \u0000 \ud800 é 漢 🦊",
    "x" * 300,
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.starts, self.texts, self.words, self.inside = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.starts.append((tag, dict(attrs)))
        self.inside = tag
        if tag in ("script", "style"):
            self.texts.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.texts[-1][2] += data
        self.words.append(data)


def made(**more):
    arms = {("bn",): [0.30, 0.31], ("gn",): [0.35, ("diverged", 40)]}
    return document(study(arms, {"norm": ("bn", "gn")}, ("bn",), **more))


def in_page(text):
    data = next(t for tag, attrs, t in Elements(text).texts if attrs.get("id") == "data")
    return json.loads(data)


def test_the_whole_document_is_in_the_page():
    given = made()
    assert in_page(render(given)) == {"page": "sweep", "document": given, "live": None}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_data_and_nothing_else(name):
    plain = Elements(render(made()))
    page = render(made(name=name, question=name, cautions=(name,)))
    found = Elements(page)
    assert found.starts == plain.starts
    told = in_page(page)["document"]
    assert told["sweep"]["name"] == name
    assert told["cautions"] == [name]
    page.encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("<>&/!-\u2028\u2029\"'\\")))
def test_what_is_in_the_island_comes_out_again_and_cannot_end_it(text):
    told = island({"name": text})
    assert json.loads(told) == {"name": text}
    assert not set(told) & set("<>&\u2028\u2029")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_an_error(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        island({"mAP": number})


def test_the_page_allows_its_own_script_and_style_and_nothing_else():
    page = Elements(render(made()))
    policy = next(a["content"] for tag, a in page.starts if "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    runs = [(tag, text) for tag, attrs, text in page.texts if attrs.get("type") is None]
    assert [tag for tag, _ in runs] == ["style", "script"]
    for tag, text in runs:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "connect-src" not in rules


def test_only_a_served_page_may_ask_its_server():
    live = {"url": "/api/sweep/made.json", "refresh": 5, "as_of": 1.0, "stale": None}
    for page in (render(made(), live), render_list([], live)):
        policy = next(a["content"] for tag, a in Elements(page).starts if "http-equiv" in a)
        assert "connect-src 'self'" in policy


def test_the_page_loads_nothing():
    page = Elements(render(made()))
    assert not [a for _, a in page.starts if "src" in a]
    assert {tag for tag, a in page.starts if "href" in a} == {"a"}
    script = "".join(text for tag, _, text in page.texts if tag == "script")
    for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in script


@pytest.mark.parametrize("name", HOSTILE[:-2])
def test_a_notice_shows_names_as_they_are(name):
    plain, found = (Elements(render_notice("No such sweep", n)) for n in ("x", name))
    assert found.starts == plain.starts
    shown = name.replace("\r\n", "\n")  # as HTML reads the ends of lines
    assert shown in "".join(found.words).replace("\r\n", "\n")


def test_what_the_page_is_made_of_is_packaged():
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["dashboards"]
    files = [f"page/{path.name}" for path in PAGE.iterdir() if path.is_file()]
    assert files
    assert not [name for name in files if not any(fnmatch(name, p) for p in patterns)]
