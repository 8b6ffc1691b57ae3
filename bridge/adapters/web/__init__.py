"""The web adapter: MQTT's messages on WebSockets, outputs by signed URL, displays, and a page.

It knows the bridge through MQTT alone: in the bridge's process or in one of its own it does the
same. Pure: `frames` (the messages on a socket), `hub` (sessions, and which frame each is sent),
`requests` (answers matched to requests), `limits`, `http_headers`. Around them: `keyring` (a
file), `broker` (MQTT), `server` (TCP and HTTP, by aiohttp), `handlers`, `sockets`, and `adapter`,
which is all of it.
"""
