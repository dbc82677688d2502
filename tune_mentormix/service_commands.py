"""The command that serves searches to a team."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tune_mentormix.cli_options import StorageText
from tune_mentormix.errors import RequestError, how_to_install

Configuration = Annotated[
    Path | None, typer.Option(help="A YAML file of what the server allows; docs/service.md.", show_default=False)
]
Host = Annotated[str, typer.Option(help="Where to listen; other machines can come to any but loopback.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Where to listen.")]
TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", help="A file of tokens, with mode 600.", show_default="~/.config/tune-mentormix/tokens"),
]
JobsAddress = Annotated[
    str | None, typer.Option("--address", help="Of the cluster's jobs, http://HEAD:8265.", show_default="none")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that is open to everyone.")]
Certificate = Annotated[Path | None, typer.Option(help="Of this server, for HTTPS.", show_default=False)]
Key = Annotated[Path | None, typer.Option(help="Of the certificate.", show_default=False)]

app = typer.Typer()


@app.command()
def serve(
    config: Configuration = None,
    storage: StorageText = None,
    address: JobsAddress = None,
    host: Host = "127.0.0.1",
    port: Port = 8400,
    tokens: TokensFile = None,
    certificate: Certificate = None,
    key: Key = None,
    insecure: Insecure = False,
) -> None:
    """Serve searches to a team: pages and an API to submit, watch, stop and collect them."""
    try:
        from tune_mentormix.service.configuration import read_configuration
        from tune_mentormix.service.server import Listening
        from tune_mentormix.service.server import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tune_mentormix"):
            raise
        raise RequestError(f"serve needs {error.name}: {how_to_install('serve')}") from error
    options = {"storage": storage, "address": address, "insecure": insecure or None}
    serve_until_stopped(read_configuration(config, options), Listening(host, port, certificate, key), tokens)
