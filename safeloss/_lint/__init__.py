"""`safeloss lint`: mistakes with losses that the source alone shows."""
