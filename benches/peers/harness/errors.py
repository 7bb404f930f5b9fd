"""Errors with the exit status that they end in, as in src/error.rs of the main crate."""

from __future__ import annotations


class InputError(Exception):
    """A flag has a value that cannot be used."""

    status = 2


class EnvironmentTrouble(Exception):
    """Something that has to be there is missing or does not work."""

    status = 3
