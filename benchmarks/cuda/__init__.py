"""What the checks cost on a GPU: every safe loss against its native one, by one command.

    python -m benchmarks --only cuda --output FILE.json
    python -m benchmarks --only cuda --rehearse
    python -m benchmarks --only cuda --load FILE.json --report docs/

It needs torch, jaxtyping, beartype and a checkout. The losses that matter most are measured first,
and what was found is written after each step, so a run that is cut short has a record too.
"""
