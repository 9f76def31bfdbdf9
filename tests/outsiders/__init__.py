"""Losses of somebody who has read the docs and knows nothing but `import safeloss`."""
