"""Home Assistant: a device for each workflow and one for the bridge, by MQTT discovery.

`fields` maps inputs to components, `discovery` makes the announcements, `device_state` holds the
state of a workflow's jobs; all three are pure. `inputs` keeps the values that were set, and
`adapter` publishes and takes commands.
"""
