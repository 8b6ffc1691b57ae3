"""What runs in an environment of its own is none of this one's tests."""

collect_ignore = ["homeassistant_integration"]
