"""Transports and integrations: each turns what its users speak into requests, and answers back."""
