"""Source code that is read and never run: which files, which names, and how they are written back.

Nothing here imports torch, so that `safeloss lint` and `safeloss migrate` start at once.
"""
