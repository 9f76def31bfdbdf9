"""Losses that a YAML file names, for Hydra (`_target_`) and for Lightning's CLI (`class_path`)."""

import re

from safeloss._migrate.imports import Edit, apply
from safeloss._migrate.rewrite import Rewritten
from safeloss._migrate.sites import Site
from safeloss._source import table
from safeloss._source.files import lines

_PATH = re.compile(r"(?<![\w.])torch\.nn\.[\w.]+(?![\w.])")
# Certain is a whole value of one of these keys, on one line.
_KEY = re.compile(r"""(?:^|[\s{,"'-])(?:_target_|class_path)["']?\s*:\s*["']?$""")
_END = re.compile(r"""["']?\s*(?:[,}\]]|#|$)""")
_COMMENT = re.compile(r"(?:^|\s)#")
_BLOCK = re.compile(r":\s*[|>][-+\d]*\s*(?:#.*)?$|^\s*-\s*[|>][-+\d]*\s*$")
MULTI_LABEL = "safeloss.MultiLabelBCE computes the same mean on [batch, classes]"


def rewrite(text: str) -> Rewritten:
    """The text with paths of safe losses where it is certain that a loss is built from them."""
    edits, sites, notes = [], [], []
    offset, block = 0, None  # the indentation of a line whose value is a block of text
    for number, line in enumerate(lines(text), 1):
        bare = line.rstrip("\r\n")
        indent = len(bare) - len(bare.lstrip(" "))
        if block is not None and bare.strip() and indent <= block:
            block = None
        for match in _PATH.finditer(bare):
            found = table.native(match[0])
            if found is None or found[1] or _COMMENT.search(bare[: match.start()]):
                continue
            before, after = bare[: match.start()], bare[match.end() :]
            certain = block is None and _KEY.search(before) and _END.match(after)
            left = "" if certain else f"it is not known what becomes of {match[0]}"
            sites.append(Site(number, found[0], "configuration", left))
            if certain:
                start, end = offset + match.start(), offset + match.end()
                edits.append(Edit(start, end, table.replacement(found[0])))
                if found[0] == "MultiLabelSoftMarginLoss":
                    notes.append((number, MULTI_LABEL))
        if block is None and _BLOCK.search(bare):
            block = indent
        offset += len(line)
    return Rewritten(apply(text, edits), sites, notes)
