"""A mosquitto with the files that `comfy2mqtt mosquitto setup` writes: users, passwords, ACL."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import quote

from click.testing import CliRunner

from bridge.cli.main import main
from bridge.mosquitto import Mosquitto

# May do everything, for what a test itself has to see; no file of ours has it.
ROOT_USER = "root"


class Confined(Mosquitto):
    """`password` tells a user's; those of `clients` are there from the start."""

    def __init__(
        self, folder: Path, *clients: str, config: str = "", certificate: Path | None = None
    ) -> None:
        """`config` is what comfy2mqtt.toml says; `certificate` has its key beside it, key.pem."""
        super().__init__(folder)
        self.files = folder / "conf.d"
        self.password: dict[str, str] = {}
        self._clients = clients
        self._config = config
        self._certificate = certificate
        self.tls_port = 0

    def url_of(self, user: str) -> str:
        """The address at which a user connects, with name and password."""
        credentials = f"{user}:{quote(self.password[user], safe='')}"
        return self.url.replace("//", f"//{credentials}@")

    def command(self, *words: str) -> None:
        """Run `comfy2mqtt mosquitto ...`; the passwords that it shows are noted."""
        named = ("--folder", str(self.files), "--config", str(self.folder / "comfy2mqtt.toml"))
        done = CliRunner().invoke(main, ["mosquitto", *words, *named], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        for line in done.stdout.splitlines():
            if line.startswith("  "):
                user, password = line.split()
                self.password[user] = password

    def _write_configuration(self, port: int) -> Path:
        own = self.folder / "mosquitto.conf"
        if own.exists():
            return own
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "comfy2mqtt.toml").write_text(self._config)
        words = ["setup", "--port", str(port)]
        if self._certificate is not None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.tls_port = probe.getsockname()[1]
            words += ["--tls-port", str(self.tls_port), "--certificate", str(self._certificate)]
            words += ["--key", str(self._certificate.with_name("key.pem"))]
        self.command(*words)
        for each in (*self._clients, ROOT_USER):
            self.command("add-user", each)
        with (self.files / "comfy2mqtt.acl").open("a") as acl:
            acl.write(f"\nuser {ROOT_USER}\ntopic readwrite #\n")
        lines = [
            f"persistence_location {self.folder.resolve()}/",
            "log_dest stderr",
            *(["user root"] if os.geteuid() == 0 else []),
            f"include_dir {self.files.resolve()}",
        ]
        own.write_text("\n".join(lines) + "\n")
        return own
