"""What is built and shipped, looked at as files."""

from __future__ import annotations

import posixpath
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import flowmaestro_core
from tests.harness.house.pages import MARKDOWN, headings_of

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "flowmaestro": ROOT / "flowmaestro",
    "flowmaestro_core": ROOT / "flowmaestro_core",
    "flowmaestro_transports": ROOT / "transports" / "flowmaestro_transports",
}

SKILL = "flowmaestro/.agents/skills/flowmaestro/"
SHOWN = (".html", ".md", ".py", ".toml")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return what the backend itself makes of this tree, offline, by its target."""
    pytest.importorskip("hatchling", reason="hatchling is NOT INSTALLED, so nothing can be built")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built["wheel"]) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(built):
    with tarfile.open(built["sdist"]) as archive:
        yield {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_three_packages_whole_and_nothing_else(wheel):
    source = {
        f"{package}/{file.relative_to(directory).as_posix()}"
        for package, directory in PACKAGES.items()
        for file in directory.rglob("*")
        if file.suffix in (".py", ".html") or file.name == "py.typed"
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in shipped if not name.startswith(SKILL)} == source


def test_the_wheel_holds_the_skill_and_every_page_that_it_names(wheel):
    text = wheel.read(f"{SKILL}SKILL.md").decode()
    named = set(re.findall(r"`((?:docs|transports)/[\w./-]+)`", text))
    assert len(named) > 4
    for name in named:
        assert any(it.startswith(SKILL + name) for it in wheel.namelist()), name


@pytest.fixture(scope="module")
def pages(wheel):
    """Return the text of each page of the skill, by its name in the wheel."""
    names = (name for name in wheel.namelist() if name.startswith(SKILL) and name.endswith(".md"))
    return {name: wheel.read(name).decode() for name in names}


def links_of(text):
    """Return where each relative link and each picture of the rendered page leads."""
    return re.findall(r' (?:href|src)="(?!https?:)([^"#]+)', MARKDOWN.render(text))


def test_every_link_of_the_skill_leads_to_a_file_of_the_wheel(wheel, pages):
    there = set(wheel.namelist())
    links = [(page, link) for page, text in pages.items() for link in links_of(text)]
    assert len(links) > 800
    assert [
        (page, link)
        for page, link in links
        if posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) not in there
    ] == []


def test_a_page_of_the_skill_differs_from_its_source_in_links_alone(pages):
    """Code is the same, too: signs like those of a link stand in it."""
    for page, text in pages.items():
        source = ROOT / (page if page.endswith("SKILL.md") else page[len(SKILL) :])
        fenced = [
            [it.content for it in MARKDOWN.parse(each) if it.type == "fence"]
            for each in (text, source.read_text("utf-8"))
        ]
        assert fenced[0] == fenced[1], page


def test_a_lost_link_of_the_skill_leads_to_the_repository_once_it_has_an_address(hook):
    text = "[a](b.md#c) [d](../e.py) ![f](g.svg) `h[i](j)`\n"
    known = {"docs/k.md", "docs/b.md"}
    page = hook["page_of_the_skill"](text, "docs/k.md", known, REPOSITORY, "1.0")
    place = f"{REPOSITORY}/blob/v1.0"
    picture = f"{REPOSITORY}/raw/v1.0/docs/g.svg"
    assert page == f"[a](b.md#c) [d]({place}/e.py) ![f]({picture}) `h[i](j)`\n"
    page = hook["page_of_the_skill"](text, "docs/k.md", known, "", "1.0")
    assert page == "[a](b.md#c) d  `h[i](j)`\n"


def test_the_command_is_installed(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "flowmaestro = flowmaestro.__main__:main" in wheel.read(name).decode()


def test_it_needs_three_libraries(metadata):
    needed = [
        requirement
        for requirement in metadata.get_all("Requires-Dist")
        if "extra" not in requirement
    ]
    names = {re.match(r"[\w-]+", requirement).group() for requirement in needed}
    assert names == {"anyio", "certifi", "h11"}
    assert all(">=" in requirement for requirement in needed)


REPOSITORY = "https://source.test/flowmaestro"


@pytest.fixture(scope="module")
def hook():
    """Return the names of `hatch_build.py`, which hatchling runs."""
    pytest.importorskip("hatchling", reason="hatchling is NOT INSTALLED, so nothing can be built")
    return runpy.run_path(str(ROOT / "hatch_build.py"))


@pytest.mark.parametrize("repository", [REPOSITORY, ""], ids=["set", "unset"])
def test_links_of_the_page_on_the_index_lead_to_files_of_this_version(hook, repository):
    """The long description: a part of README.md, with links that work outside the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = hook["long_description"](readme, repository, flowmaestro_core.__version__)
    links = re.findall(r' (href|src)="([^"]*)"', MARKDOWN.render(text))
    assert [link for _, link in links if not link.startswith("https://")] == []
    ours = [(kind, link) for kind, link in links if link.startswith(REPOSITORY)]
    for kind, link in ours:
        place = "raw" if kind == "src" else "blob"
        prefix = f"{REPOSITORY}/{place}/v{flowmaestro_core.__version__}/"
        assert link.startswith(prefix)
        name, _, fragment = link[len(prefix) :].partition("#")
        assert (ROOT / name).is_file(), link
        assert not fragment or fragment in headings_of(ROOT / name), link
    if repository:
        assert len(ours) > 20
        assert sum(kind == "src" for kind, _ in links) == 2
    else:
        assert links == [("href", "https://flowmaestro.io")]
        assert "](" not in text.replace("](https://flowmaestro.io)", "")
    assert "pip install 'flowmaestro>=1'" in text
    assert text.rstrip().endswith("MIT license.")
    for word in ("pip install '.", "nox", "until", "index:"):
        assert word not in text


def test_the_page_on_the_index_is_what_is_built(hook, metadata):
    known = runpy.run_path(str(PACKAGES["flowmaestro"] / "cli" / "addresses.py"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = (known["REPOSITORY"], flowmaestro_core.__version__)
    assert metadata.get_payload() == hook["long_description"](readme, *told)
    assert metadata["Description-Content-Type"] == "text/markdown"
    urls = hook["project_urls"](known["DOCUMENTATION"], known["REPOSITORY"])
    assert metadata.get_all("Project-URL", []) == [", ".join(it) for it in urls.items()]


def test_project_urls_are_those_that_have_an_address(hook):
    assert hook["project_urls"]("", "") == {}
    urls = hook["project_urls"]("https://docs.test/", REPOSITORY)
    assert len(urls) == 4
    assert (ROOT / urls["Changelog"].partition("/blob/main/")[2]).is_file()


def test_no_file_has_an_address_that_is_a_placeholder():
    """`flowmaestro/cli/addresses.py` is the one place of the addresses."""
    folders = ("benchmarks", "docs", "examples", "flowmaestro", "flowmaestro_core", "transports")
    files = [*ROOT.iterdir(), *(file for name in folders for file in (ROOT / name).rglob("*"))]
    texts = {file: file.read_text("utf-8") for file in files if file.suffix in SHOWN}
    found = [file for file, text in texts.items() if "https://flowmaestro.example" in text]
    assert found == []


def test_the_extra_all_has_what_the_others_have(metadata):
    brought = {}
    for requirement in metadata.get_all("Requires-Dist"):
        for extra in re.findall(r"extra == '(\w+)'", requirement):
            brought.setdefault(extra, set()).add(re.match(r"[\w-]+", requirement).group())
    assert len(brought) > 5
    assert brought.pop("all") == set().union(*brought.values())


def test_dependency_groups_hold_packages_of_others_only():
    """A group with `flowmaestro` in it would install the release from the index."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    groups = re.search(r"^\[dependency-groups\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)[1]
    assert "pytest-xdist" in groups
    assert not re.search(r"[\"']flowmaestro", groups)


def test_the_source_distribution_can_be_tested_and_holds_no_leftovers(sdist):
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "noxfile.py", "pyproject.toml"}
    wanted |= {"tests/house/test_packaging.py", "docs/architecture.md", "transports/README.md"}
    assert sdist >= wanted | {".ci/run"}
    assert not [name for name in sdist if re.search(r"__pycache__|\.venv|\.nox|_cache|\.egg", name)]


def test_python_versions_are_the_same_everywhere(metadata):
    declared = [
        line.rpartition(" ")[2]
        for line in metadata.get_all("Classifier")
        if re.search(r":: 3\.\d+$", line)
    ]
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert f"PYTHONS = ({', '.join(map(repr, declared))})".replace("'", '"') in noxfile


def test_the_changelog_knows_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert flowmaestro_core.__version__ in changelog
