"""Where the project is found: on the package's page, in the site's header, in `--help`.

An address that is empty is not decided yet. Then nothing links there, and `nox -s release` refuses
to build.
"""

DOCUMENTATION = ""
"""The address of the site, with a slash at its end."""

REPOSITORY = ""
"""The address of the source repository, as on GitHub: files are below `/blob/` and `/raw/`."""
