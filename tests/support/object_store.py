"""A real S3-compatible server on the loopback interface, with one bucket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

BUCKET = "experiments"


class ObjectStore:
    """The server, which can be stopped and started again at the same address with the same objects."""

    def __init__(self) -> None:
        import boto3  # half a second, only where it is needed

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = _start(0)
        self._port = self._server.get_host_and_port()[1]
        boto3.client("s3", endpoint_url=self.endpoint).create_bucket(Bucket=BUCKET)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def uri(self, folder: str, bucket: str = BUCKET) -> str:
        """Of a folder in the bucket."""
        return f"s3://{bucket}/{folder}?endpoint_override={self.endpoint}&scheme=http"

    def stop(self) -> None:
        self._server.stop()

    def start_again(self) -> None:
        """The objects are still there: moto keeps them in this process."""
        self._server = _start(self._port)


def _start(port: int) -> ThreadedMotoServer:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server
