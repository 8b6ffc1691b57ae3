"""The integration's protocol, without the integration around it, which needs Home Assistant."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROTOCOL = Path(__file__).parents[2] / "custom_components" / "comfy2mqtt" / "protocol"

_spec = importlib.util.spec_from_file_location(
    "comfy2mqtt_protocol", PROTOCOL / "__init__.py", submodule_search_locations=[str(PROTOCOL)]
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)
