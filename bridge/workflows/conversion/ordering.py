"""tmp"""
from __future__ import annotations
class Ordering:
    def __init__(self, object_info, layout): pass
    def arrange(self, source, prefix, specs, following): return specs
