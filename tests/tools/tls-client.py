#!/usr/bin/env python3
"""tls-client.py PORT CAFILE - one short visit to the room of lesson 07, with
Python's own ssl: joins, says something, and ends with close_notify. Prints the
type of each message that came, and "the end" when the server has said that it
was the end."""

import json
import socket
import ssl
import struct
import sys


def main(port, cafile):
    context = ssl.create_default_context(cafile=cafile)
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(plain, server_hostname="localhost") as room:

        def send(**message):
            payload = json.dumps(message).encode()
            room.sendall(struct.pack(">I", len(payload)) + payload)

        def receive(length):
            data = b""
            while len(data) < length:
                more = room.recv(length - len(data))
                if not more:
                    sys.exit("the server ended first")
                data += more
            return data

        def show():
            (length,) = struct.unpack(">I", receive(4))
            print(json.loads(receive(length))["type"], flush=True)

        send(type="join", name="python")
        show()
        send(type="say", text="x" * 8192)
        show()
        send(type="ping")
        show()
        room.unwrap()  # close_notify, and waits for the server's
        print("the end", flush=True)


main(int(sys.argv[1]), sys.argv[2])
