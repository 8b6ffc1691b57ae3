"""Bytes in and out: what they are, and where they are kept."""
