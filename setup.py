"Builds the package from the metadata in settings.ini, so that it stands in one place."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters="=")
parser.read(here/"settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
lines = lambda key: [l for l in cfg.get(key, "").splitlines() if l.strip()]
extras = {k.removeprefix("extras_"): lines(k) for k in cfg if k.startswith("extras_")}
extras["all"] = sorted({r for k, reqs in extras.items() if k != "dev" for r in reqs})
extras["extended"] = extras["all"]   # the name that the source document has for it
# The tests try the extras too, but for two that bring gigabytes: nnU-Net and ITK. What needs those is skipped, with a message.
extras["dev"] += sorted({r for k in extras if k not in ("dev", "all", "extended", "hdbet", "radiomics") for r in extras[k]})

setup(
    name=cfg["name"],
    version=re.search(r'^__version__ = "([^"]+)"', (here/"neuroscope/__init__.py").read_text(encoding="utf-8"), re.M)[1],
    description=cfg["description"], long_description=(here/"README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    author=cfg["author"], license=cfg["license"], keywords=cfg["keywords"], classifiers=lines("classifiers"),
    python_requires=cfg["python_requires"], install_requires=lines("requirements"), extras_require=extras,
    packages=find_packages(include=["neuroscope", "neuroscope.*"]), include_package_data=False,
    package_data={"neuroscope.pages": ["templates/*.html", "templates/*.css"]},   # the templates of the HTML pages
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": ["neuroscope=neuroscope._modidx:d"]},
)
