#!/usr/bin/env python3
"""Calls a runtime with descriptors beside the three, and prints what became of them.

    preserve.py COMMAND...      COMMAND gets 3: a socket, 4: the reading end of a pipe, 5: the writing end of another,
                                6: /dev/null
"""
import os
import socket
import subprocess
import sys
import threading

LINES = "".join("%d\n" % i for i in range(20000)).encode()


def call(command, descriptors):
    for i, fd in enumerate(descriptors):
        os.dup2(fd, 40 + i)
        os.close(fd)

    def place():
        for i in range(len(descriptors)):
            os.dup2(40 + i, 3 + i)
        os.closerange(3 + len(descriptors), 1024)

    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               preexec_fn=place, close_fds=False)
    os.closerange(40, 40 + len(descriptors))
    return process


def drain(read, into):
    while True:
        try:
            data = read(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        into.append(data)


def main():
    ours, theirs = socket.socketpair()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    process = call(sys.argv[1:], [theirs.detach(), to_read, from_write, os.open("/dev/null", os.O_RDWR)])
    through_socket, through_pipe = [], []
    readers = [threading.Thread(target=drain, args=(ours.recv, through_socket)),
               threading.Thread(target=drain, args=(lambda size: os.read(from_read, size), through_pipe))]
    for reader in readers:
        reader.start()
    try:
        ours.sendall(b"a line\n" + LINES)
        ours.shutdown(socket.SHUT_WR)
        os.write(to_write, b"through a pipe\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
    os.close(to_write)
    output = process.communicate()[0].decode()
    for reader in readers:
        reader.join()
    print(output, end="")
    print("socket:", b"".join(through_socket).decode(), end="")
    piped = b"".join(through_pipe)
    print("pipe:", len(piped), piped[:15], piped[15:] == LINES)
    print("status", process.returncode)


main()
