"""nginx with HTTPS and a stand-in for oauth2-proxy in front of a service, with the configuration of `deploy/`."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
DEPLOY = Path(__file__).parents[2] / "deploy"
COOKIE = "_oauth2_proxy"  # here it holds the name of the user, whom the real one has signed in


class _SignIn(BaseHTTPRequestHandler):
    """Answers nginx's question who asks, and shows where one would sign in."""

    def do_GET(self) -> None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        if self.path == "/oauth2/auth":
            self.send_response(202 if cookie else 401)
            if cookie:
                self.send_header("X-Auth-Request-Email", cookie.value)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>Sign in with your account</h1>")

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


@contextmanager
def proxied(folder: Path, service_port: int, port: int, secret: str) -> Iterator[str]:
    """Serves on HTTPS as `nginx-sso.conf` says, but for ports and paths; yields the URL."""
    sign_in = ThreadingHTTPServer(("127.0.0.1", 0), _SignIn)
    threading.Thread(target=sign_in.serve_forever, daemon=True).start()
    certificate, key, given = folder / "searches.pem", folder / "searches.key", folder / "proxy-secret.conf"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    given.write_text(f'proxy_set_header X-Proxy-Secret "{secret}";\n')
    text = (DEPLOY / "nginx-sso.conf").read_text()
    for ours, theirs in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "searches.example.org": "127.0.0.1",
        "/etc/ssl/searches.pem": str(certificate),
        "/etc/ssl/searches.key": str(key),
        "/etc/nginx/proxy-secret.conf": str(given),
        "http://127.0.0.1:8400": f"http://127.0.0.1:{service_port}",
        "http://127.0.0.1:4180": f"http://127.0.0.1:{sign_in.server_port}",
        "$scheme://$host$request_uri": "$request_uri",
    }.items():
        assert ours in text, ours
        text = text.replace(ours, theirs)
    temporary = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"pid {folder / 'nginx.pid'};\nerror_log {folder / 'error.log'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    nginx = subprocess.Popen([str(NGINX), "-c", str(configuration), "-g", "daemon off; user root;"])
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(20)
        sign_in.shutdown()
        sign_in.server_close()
