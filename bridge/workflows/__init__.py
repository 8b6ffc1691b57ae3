"""Workflows: graphs, their inputs and outputs, and the folder that they come from."""
