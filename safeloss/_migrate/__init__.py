"""`safeloss migrate`: native losses in a code base become safe ones, and nothing else changes.

Python's own parser says where the losses are, by byte; only those places are written anew, with
LibCST for arguments and imports, so that the rest stays as it is to the byte.
"""
