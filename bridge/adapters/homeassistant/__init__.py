"""Home Assistant: a device for each workflow and one for the bridge, by MQTT discovery.

`fields` says what an input is there, `drawing` draws the announcements, `standing` what is shown of
the jobs; all three are pure. `inputs` keeps what was set, and `door` publishes and takes commands.
"""
