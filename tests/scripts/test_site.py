"""The pages of docs/ and the README: every link has a target, every page a place in the site."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SITE = ROOT / "scripts" / "site"
OWN = {"index.md", "changelog.md"}  # made of files of the top folder


def prose(page):
    """The text without its code, in which brackets are no links."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?m)^(?: {4}|\t).*$", "", text))


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page):
    heads = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def dead(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page):
    assert not list(dead(page))


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](none.md) [b](page.md#one-head) [c](#two) `[d](none.md)` [e](https://a.b/c)\n")
    assert list(dead(page)) == ["none.md", "#two"]


def placed(nav):
    for entry in nav:
        for value in entry.values():
            yield from placed(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_site_once():
    nav = list(placed(yaml.safe_load((SITE / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    docs = ROOT / "docs"
    assert sorted(nav) == sorted({str(page.relative_to(docs)) for page in docs.rglob("*.md")} | OWN)


def test_every_picture_is_shown():
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert set((ROOT / "docs").rglob("*.png")) <= shown
