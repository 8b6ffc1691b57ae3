"""The browser's door: MQTT's messages on a WebSocket, links to outputs, and a page.

It knows the bridge through MQTT alone: in the bridge's process or in one of its own it does the
same. Pure: `frames` (what is said on the socket), `hub` (who hears what, and when it is too
much for a reader), `limits` (how often), `web` (what HTTP's headers mean). Around them: `keyring`
(a file), `broker` (MQTT), `links` and `site` (HTTP), `server` (the socket), `door` (all of it).
"""
