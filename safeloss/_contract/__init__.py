"""What a call means: layouts, how a call is read by them, mistakes, values and options.

Pure: it sees shapes, dtypes and options. Only rules and suspicions look at tensors (`values`,
`suspicions`, `ctc`).
"""
