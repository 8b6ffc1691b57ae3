"""The group of each setting, and a line about it for `--help`.

docs/settings.md says more. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

BROKER = "The broker"
COMFYUI = "ComfyUI"
SERVICE = "Folders and the bridge itself"
RIGHTS = "What clients may do"
DEVICES = "Home Assistant, displays and triggers"
WEB = "The web adapter"
KEEPING = "How long data is kept"

# In the order of `serve --help`.
GROUPS: Mapping[str, Mapping[str, str]] = {
    BROKER: {
        "mqtt_url": "mqtt://user:password@host:port, mqtts:// for TLS, ws:// or wss:// with a path,"
        " or a bare host.",
        "mqtt_ca": "Certificates to trust, PEM, in place of the system's.",
        "mqtt_cert": "A certificate to present, PEM, to a broker that asks for one.",
        "mqtt_key": "The certificate's key, PEM, if that is another file.",
        "mqtt_password_file": "A file whose first line is the password.",
        "isolation_probe_url": "The broker's URL with a client's password, to test whether it"
        " keeps clients apart.",
        "mqtt_client_id": "The broker keeps requests under this id while the bridge is offline.",
        "base_topic": "The first level of all topics.",
        "max_publishes_per_s": "The highest rate of messages, for a broker that limits it.",
        "cloudevents": "Publish statuses, outputs and results as CloudEvents, too.",
        "max_packet": "The largest packet in bytes; by default the broker's limit.",
    },
    COMFYUI: {
        "comfyui_url": "Attach to a running ComfyUI: http://host:8188.",
        "comfyui_path": "Start the ComfyUI in this folder; with neither, the bridge installs one.",
        "comfyui_python": "Its interpreter; by default that of the environment in its folder.",
        "comfyui_args": "More arguments for ComfyUI, such as --lowvram.",
        "comfyui_secret": "The COMFY2MQTT_SECRET of an attached ComfyUI, if it has one.",
        "comfyui_warm": "A workflow to keep loaded: it runs at the start and after a yield.",
        "comfyui_api_key_file": "A file with the key of a Comfy.org account, for partner nodes.",
        "comfyui_api_key": "The key of a Comfy.org account itself, in place of the file.",
        "comfyui_gpu": "The name of ComfyUI's graphics card, by which other programs request it.",
        "comfyui": "Several ComfyUIs, as tables.",
        "hook": "Calls before a ComfyUI is busy and after it was idle, as tables.",
        "comfyui_repository": "The git repository for `comfyui install`.",
        "model_hosts": "Hosts that `models get` may fetch from, with their subdomains.",
        "comfyui_updates": "Look for releases once a day; operators may install them.",
        "comfyui_torch_index": "An index of torch's own builds, for ROCm or XPU.",
        "silence_s": "How long a running job may send nothing before it counts as hanging.",
        "idle_unload_s": "How long ComfyUI is idle before it unloads its models; 0: never.",
    },
    SERVICE: {
        "workflows": "The folder of workflows.",
        "data": "The folder of journal, outputs and logs; by default in ~/.local/share.",
        "journal": "postgresql://... for a group of bridges; by default SQLite, in data.",
        "blobs": "s3://bucket/prefix for large outputs and inputs; by default beside the journal.",
        "s3_endpoint": "The address of a store that speaks S3; by default that of AWS.",
        "s3_public_endpoint": "Its address for clients, in links, if that is another one.",
        "s3_region": "The bucket's region.",
        "s3_access_key": "The access key; by default the environment's, as AWS' tools find it.",
        "s3_secret_key_file": "A file whose first line is the secret key.",
        "member": "This bridge's name in a group; by default the host's.",
        "lease_s": "After this time without a heartbeat a bridge of a group counts as dead.",
        "name": "The bridge's name in bridge/info.",
        "log_level": "The least severe level to log.",
        "log_format": "Log lines as text or as JSON.",
        "metrics_listen": "host:port for Prometheus; by default none.",
        "operator_verbs": "Accept an operator's commands over MQTT.",
        "stop_s": "How long running jobs may take to end when the bridge is stopped.",
    },
    RIGHTS: {
        "clients": "The rights of clients, as tables by name.",
        "new_clients_per_s": "New clients in a second, of all names; more are refused.",
        "allow_nodes": "Classes of nodes that workflows may use; by default all.",
        "deny_nodes": "Classes of nodes that workflows may not use.",
        "url_timeout_s": "How long fetching one URL may take.",
        "sink": "Places where all outputs are delivered, as tables.",
        "sink_folder": "Folders that outputs may be delivered to, as tables.",
        "sink_timeout_s": "How long to retry a sink that does not accept an output.",
        "webhook_key_file": "The key of webhooks' secrets; by default webhook.key in the data"
        " folder.",
        "max_inline_input": "Bytes of a media input within a request.",
        "max_input_pixels": "Pixels of a picture or of a film's frame.",
        "max_input_frames": "Pictures of an animation or a film.",
        "max_input_seconds": "Seconds of a film or a sound.",
        "max_input_unpacked": "Bytes that a media input may have unpacked.",
        "max_upload": "Bytes of an upload, or of what a URL gives.",
        "max_queue": "Jobs that wait, of all clients.",
        "max_attempts": "How often a job starts if its ComfyUI ends during it.",
        "timeout_s": "How long a job may run, unless its request says otherwise.",
        "quarantine_s": "How long to refuse a prompt that ended its ComfyUI twice.",
        "reorder_s": "How long jobs whose model is loaded may start before others; 0: never.",
    },
    DEVICES: {
        "homeassistant": "Announce the bridge and its workflows to Home Assistant.",
        "homeassistant_prefix": "Home Assistant's discovery prefix.",
        "display": "Displays, as tables.",
        "trigger": "Triggers, as tables.",
    },
    WEB: {
        "websocket_listen": "host:port of the page; by default none.",
        "websocket_mqtt_url": "The adapter's own account at the broker; by default mqtt_url.",
        "websocket_keys": "The file of keys; without it: keys.json in the data folder.",
        "websocket_origins": "Pages from elsewhere that may open the socket; *: all.",
        "frame_ancestors": "Pages that may embed ours in a frame; self: of its origin; *: all.",
        "websocket_cert": "Its certificate, PEM, for https.",
        "websocket_cert_key": "The certificate's key, PEM, if that is another file.",
        "websocket_max_message": "Bytes of a message from a client.",
        "websocket_max_connections": "Connections of all clients.",
        "websocket_max_per_key": "Connections with one key.",
        "websocket_rate": "Messages a second of a connection; a faster sender is slowed down.",
        "websocket_buffer": "Bytes that may wait for a client that does not read.",
        "websocket_idle_s": "How long a connection without a job may be silent.",
        "trusted_proxies": "Addresses of proxies whose X-Forwarded headers are believed.",
        "public_url": "The page's address for clients; with it results have links.",
        "public_mqtt_url": "The broker's address for clients, in the page's code samples.",
        "link_key_file": "The key that links are signed with; without it: link.key in the data"
        " folder.",
        "link_s": "How long a link is valid.",
        "links": "Whose links results carry for large outputs: the bridge's, or the store's own.",
    },
    KEEPING: {
        "keep_results_s": "How long to keep results and the recipes of their jobs.",
        "keep_outputs_s": "How long to keep outputs, unless a request says otherwise.",
        "keep_uploads_s": "How long to keep uploads, also incomplete ones.",
        "max_outputs": "Bytes of all outputs together.",
        "remember_ids_s": "How long to remember the ids of jobs.",
    },
}


def group_of(setting: str) -> str:
    """Return the group that a setting belongs to."""
    return next((group for group, settings in GROUPS.items() if setting in settings), SERVICE)


def meaning(setting: str) -> str:
    """Return what a setting means, in a sentence; tests see that each has one."""
    return GROUPS[group_of(setting)].get(setting, "")
