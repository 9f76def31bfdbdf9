"""Losses that torch does not have, written as everybody can write theirs: by `safeloss.checked`."""
