"""What the site has beside docs/: the README as its first page, the changelog, and a reference of the public names."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import distillab

ROOT = Path(__file__).parents[2]
OWN = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}  # files of the top folder, and their pages


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the style that do not lie in docs/."""
    files.append(File.generated(config, "site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    for name, page in OWN.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Follow each table of public names by the documentation of these, and let links to the top folder find their pages."""
    for name, own in OWN.items():
        markdown = markdown.replace(f"](../{name})", f"]({own})")
    if page.file.src_uri != "api.md":
        return markdown
    sections = re.split(r"(?m)^(?=## )", markdown)
    return "\n\n".join("\n\n".join([section, *(reference(name) for name in names(section))]) for section in sections)


def reference(name: str) -> str:
    """The block that mkdocstrings fills; names of the package itself are found where they are defined."""
    if name == "distillab.functional":
        return "\n\n".join(f"::: {loss.__module__}.{loss.__name__}" for loss in losses())
    package, _, own = name.rpartition(".")
    place = distillab.PLACES.get(own, package) if package == "distillab" else package
    return f"::: {place}.{own}\n    options:\n      heading: {name}"


def names(section: str) -> list[str]:
    """The names in the first column of a section's table."""
    return re.findall(r"(?m)^\| `(distillab\.[\w.]+)` \|", section)


def losses() -> list[Any]:
    """The functions of `distillab.functional`, by their names."""
    from distillab import functional

    return [getattr(functional, name) for name in functional.__all__]
