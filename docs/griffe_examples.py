"""Examples in docstrings on the site, for mkdocstrings: as code with its output, not as prose."""

import re
from typing import Any

import griffe
from site_examples import plain

_EXAMPLES = re.compile(r"^>>> .*?(?=\n\n(?!>>> )|\Z)", re.MULTILINE | re.DOTALL)


class Examples(griffe.Extension):
    """Puts the doctests of every docstring into fences."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object, after it was read."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = _EXAMPLES.sub(
                lambda examples: plain(f"{examples[0]}\n"), obj.docstring.value
            )
