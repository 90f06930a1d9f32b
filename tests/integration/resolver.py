#!/usr/bin/env python3
"""A name server on 127.0.0.11, as Docker's, that knows every name: udp and tcp. Says which protocol asked in the last byte."""
import socket
import struct
import threading

ADDRESS = ("127.0.0.11", 53)


def answer(question, last):
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([10, 1, 2, last])
    is_ipv4 = question[-4:-2] == b"\x00\x01"
    header = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1 if is_ipv4 else 0, 0, 0)
    return header + question[12:] + (record if is_ipv4 else b"")


def serve_tcp(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            size = struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL))[0]
            reply = answer(connection.recv(size, socket.MSG_WAITALL), 6)
            connection.sendall(struct.pack(">H", len(reply)) + reply)


tcp = socket.create_server(ADDRESS)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(ADDRESS)
threading.Thread(target=serve_tcp, args=(tcp,), daemon=True).start()
while True:
    data, asker = udp.recvfrom(65535)
    udp.sendto(answer(data, 17), asker)
