"""Asks the cluster's services a question, from the network namespace it runs in.

    probe.py dns SERVER NAME    prints the A records of NAME, one a line
    probe.py api ADDRESS        prints the version that the API server tells

It is run by itself, so that the same question can be asked from inside a pod's
network namespace with the node's Python.
"""

import http.client
import json
import os
import socket
import ssl
import struct
import sys

CA = "/etc/kubernetes/pki/ca.crt"


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".")) + b"\0"


def skip_name(packet, at):
    while packet[at] != 0:
        if packet[at] & 0xC0:
            return at + 2
        at += packet[at] + 1
    return at + 1


def ask(server, name):
    """One DNS question over UDP, as RFC 1035 has it; returns the A records."""
    ident = os.urandom(2)
    question = encode(name) + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((server, 53))
        s.send(ident + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + question)
        packet = s.recv(4096)
    flags, _, answers = struct.unpack(">HHH", packet[2:8])
    if packet[:2] != ident or flags & 0x000F:
        raise OSError("DNS answers with code %d" % (flags & 0x000F))
    at, found = 12 + len(question), []
    for _ in range(answers):
        at = skip_name(packet, at)
        kind, _, _, length = struct.unpack(">HHIH", packet[at:at + 10])
        at += 10
        if kind == 1:
            found.append(socket.inet_ntoa(packet[at:at + length]))
        at += length
    return found


def api(address):
    """The API server's version; its certificate must be good for the address."""
    conn = http.client.HTTPSConnection(address, 443, timeout=20, context=ssl.create_default_context(cafile=CA))
    conn.request("GET", "/version")
    answer = conn.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise OSError("HTTP status %d: %s" % (answer.status, body[:200].decode(errors="replace")))
    return json.loads(body)["gitVersion"]


def main(args):
    try:
        print("\n".join(ask(*args[1:])) if args[0] == "dns" else api(args[1]))
    except OSError as err:
        print("%s %s: %s" % (args[0], args[1], err), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
