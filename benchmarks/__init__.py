"""What the checks cost: every safe loss against its native one, in interleaved rounds.

    python -m benchmarks [--quick] [--losses NAME ...] [--output FILE.json] [--report DIR]
    python -m benchmarks --load FILE.json --report docs/
    python -m benchmarks --only cuda --output FILE.json
    python -m benchmarks.instructions

It reports and never asserts: times depend on the machine, and a slow one is no defect.
"""
