"""What a call means: layouts, how a call is read by them, mistakes, values and options.

Pure: it sees shapes, dtypes and options. Only the rules of `values` look at tensors.
"""
