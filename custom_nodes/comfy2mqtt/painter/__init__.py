"""The demo's painter: a picture from words, without a model.

A walk through it: `words` reads what a prompt asks for, `scene` sets size, horizon and light,
`palette` and `noise` give it colours and randomness; `sky`, `ground`, `landscape`, `waterside`
and `figures` make the parts, `motif` puts them together; `brush` lays strokes on a canvas,
`painting` lets them become finer from step to step, and `node` is what ComfyUI sees.
"""

from .node import Painter

__all__ = ["Painter"]
