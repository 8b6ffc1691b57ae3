"""Reasons why the web adapter cannot serve. Each text is one line for the operator.

CannotServe
├── CannotListen     the address cannot be used
└── KeyringError     the file of keys cannot be used
"""

from __future__ import annotations


class CannotServe(Exception):
    """The root of this package's errors."""


class CannotListen(CannotServe):
    """The address cannot be used."""


class KeyringError(CannotServe):
    """The file of keys cannot be read, or written."""
