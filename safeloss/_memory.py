"""Pickles that version 0.1.0 wrote look for `Memory` here."""

from safeloss._runtime.memory import Memory as Memory
