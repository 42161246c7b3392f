"""A call from outside: the same guests and telephone that a box calls itself with, on this side of its forwarded ports.

`palabre call --check` asks a socket for a room and where the program is. Here the socket is ours: the room is the box's, its tokens
come from the way everybody joins, and the addresses are those of the ports. What the box names of itself is not reachable, as
behind a router: media goes to the forwarded port, the telephone's sound to where the box answers from.
"""

import base64
import json
import os
import socket
import ssl
import subprocess
import threading

from box import FIRMWARE, Failed, fresh, seen, unverified

# The address that the emulator gives the box.
INSIDE = "10.0.2.15"
CONFIG = """
[storage]
folder = "{folder}"
[http]
tls_certificate = "{folder}/certificate.pem"
tls_key = "{folder}/certificate.pem"
[media]
bind = "127.0.0.1:7880"
announced = ["{inside}:7880"]
[sip]
advertise = "{inside}"
"""


def in_room(box, room, name):
    """A guest comes into `room` by the signals alone, and is counted as somebody there until the socket that comes back is closed, at
    most for the half minute that a guest has to answer the box's first offer of media."""
    status, joined = box.api("POST", "/api/v1/join", {"code": room["code"], "name": name})
    if status != 200:
        raise Failed(f"{name} may not join: {status} {joined}")
    line = unverified().wrap_socket(socket.create_connection(("127.0.0.1", 443), timeout=60))
    key = base64.b64encode(os.urandom(16)).decode()
    line.sendall(f"GET /rtc?access_token={joined['token']}&auto_subscribe=1&sdk=js&protocol=15 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
                 f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    answer = line.recv(4096)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise Failed(f"{name} is answered: {answer[:200]}")
    return line


def lend(listener, answer):
    """Answers one loan, and holds it until the borrower ends it."""
    line, _ = listener.accept()
    with line:
        line.sendall(json.dumps({"lent": answer}).encode() + b"\n")
        line.recv(1)


def call(box, room, within=60):
    """Two guests and a telephone meet in `room` and hear each other's tones; what was heard, as the program reports it."""
    folder = fresh(os.path.join(box.folder, "outside"))
    with open(os.path.join(folder, "certificate.pem"), "w") as file:
        file.write(ssl.get_server_certificate(("127.0.0.1", 443)))
    with open(os.path.join(folder, "palabre.toml"), "w") as file:
        file.write(CONFIG.format(folder=seen(folder), inside=INSIDE))
    tokens = []
    for name in ["Parle", "Écoute"]:
        status, joined = box.api("POST", "/api/v1/join", {"code": room["code"], "name": name})
        if status != 200:
            raise Failed(f"{name} may not join: {status} {joined}")
        tokens.append(joined["token"])
    answer = {"code": room["code"], "speaker": tokens[0], "listener": tokens[1], "ways": {"http": "127.0.0.1:443", "sip": "127.0.0.1:5060"}}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(folder, "call.sock"))
        listener.listen(1)
        threading.Thread(target=lend, args=(listener, answer), daemon=True).start()
        made = subprocess.run([os.path.join(FIRMWARE, "image", "tool.sh"), "/w/program/amd64/palabre", "call", "--check", "--timeout", f"{within}s",
                               "--config", seen(os.path.join(folder, "palabre.toml"))], capture_output=True, text=True)
    if made.returncode != 0:
        raise Failed(f"a call from outside failed: {(made.stdout + made.stderr).strip()}")
    return json.loads(made.stdout)
