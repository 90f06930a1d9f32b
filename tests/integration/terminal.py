"""Drives terminals for terminal.sh and pods.sh: a person at a keyboard, and an engine with a console socket.

    terminal.py HULL WORK [CASE...]

Each case prints "ok ..." or "not ok ..." lines.
"""
import array
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

HULL, WORK = sys.argv[1], sys.argv[2]
PATIENCE = 180  # for what happens at once on an idle host; only a failure takes that long


def result(good, what, detail=""):
    print(("ok " if good else "not ok ") + what, flush=True)
    if not good:
        for line in str(detail).splitlines()[:40]:
            print("#   " + line, flush=True)


def same(what, expected, actual):
    result(expected == actual, what, f"expected: {expected!r}\nactual:   {actual!r}")


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Screen:
    """The master of a terminal: what was shown, and keys."""

    def __init__(self, fd):
        self.fd = fd
        self.shown = b""

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        self.shown += data
        return True

    def expect(self, pattern, seconds=PATIENCE):
        """Waits until the pattern was shown; returns its match and forgets what was shown up to there."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.shown, re.S)
            if found:
                self.shown = self.shown[found.end():]
                return found
            try:
                if time.monotonic() > end or not self.read(max(0, end - time.monotonic())):
                    raise TimeoutError(f"no {pattern!r} in {self.shown!r}")
            except EOFError:
                raise TimeoutError(f"no {pattern!r} before the end in {self.shown!r}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def at_end(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self.read(0.1)
        except EOFError:
            return True
        return False


class Person(Screen):
    """A command at a terminal, in a session of its own."""

    def __init__(self, *command, rows=30, columns=100, stdin=None):
        master, slave = os.openpty()
        set_size(master, rows, columns)
        self.before = termios.tcgetattr(master)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for i in range(3):
                os.dup2(stdin if i == 0 and stdin is not None else slave, i)
            os.closerange(3, 256)
            os.execvp(command[0], command)
        os.close(slave)
        super().__init__(master)

    def wait(self, seconds=PATIENCE):
        """The exit status. What is shown meanwhile is read, or nothing would end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            try:
                self.read(0.05)
            except EOFError:
                time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return "did not end"

    def is_raw(self):
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON


# A prompt of the container's shell. It may ask where the cursor is, and needs no answer; when the window's size comes to
# it only then, it shows the prompt once more.
PROMPT = rb"[#$] (\x1b\[6n)?(\r[^\r\n]*[#$] \x1b\[J)*$"


def shell(person):
    """At a prompt, with echo."""
    person.expect(PROMPT)


def ask(person, command, pattern):
    person.type(command + "\n")
    found = person.expect(pattern)
    shell(person)
    return found


def enter(person):
    """What is shown from here to the next prompt."""
    person.type("\n")
    return person.expect(rb"^(.*?)" + PROMPT).group(1)


def size_becomes(screen, size):
    """The window's size inside, which follows that outside; the last one seen."""
    seen = []

    def has_come():
        seen.append(ask(screen, "stty size", rb"(\d+ \d+)\r\n").group(1))
        return seen[-1] == size

    eventually(has_come)
    return seen[-1]


def runs(container, command, states="RSD"):
    """Waits until the command runs in the container: the shell may not have come to it yet, and reads keys itself until then."""
    def is_there():
        shown = subprocess.run([HULL, "exec", container, "ps", "-o", "stat,args"], stdin=subprocess.DEVNULL, capture_output=True)
        lines = [line.split(None, 1) for line in shown.stdout.decode().splitlines()]
        return any(line[1:] == [command] and line[0][0] in states for line in lines)

    if not eventually(is_there):
        raise TimeoutError(f"{command} does not run")


def job_control(person, name, container):
    same(f"{name}: the window's size from the start", b"30 100", ask(person, "stty size", rb"(\d+ \d+)\r\n").group(1))
    set_size(person.fd, 41, 111)
    same(f"{name}: the window's size follows", b"41 111", size_becomes(person, b"41 111"))
    person.type("sleep 100\n")
    person.expect(rb"sleep 100\r\n")
    runs(container, "sleep 100")
    person.type("\x03")
    shell(person)
    same(f"{name}: ^C", b"130", ask(person, "echo status $?", rb"status (\d+)\r\n").group(1))
    person.type("sleep 100\n")
    person.expect(rb"sleep 100\r\n")
    runs(container, "sleep 100")
    person.type("\x1a")
    result(bool(person.expect(rb"Stopped")), f"{name}: ^Z stops it")
    shell(person)
    result(bool(ask(person, "jobs", rb"Stopped +sleep 100")), f"{name}: jobs knows it")
    person.type("fg\n")
    person.expect(rb"sleep 100\r\n")
    runs(container, "sleep 100")
    person.type("\x03")
    shell(person)
    ask(person, "until [ -e /tmp/end ]; do sleep 0.1; done &", rb"\n")
    person.type(">/tmp/end")
    result(eventually(lambda: b"Done" in enter(person)), f"{name}: a job in the background ends")
    ask(person, "rm /tmp/end", rb"\n")
    person.type("cat\n")
    person.expect(rb"cat\r\n")
    runs(container, "cat")
    person.type("line\n")
    result(bool(person.expect(rb"line\r\nline\r\n")), f"{name}: lines are echoed and edited")
    person.type("\x04")
    shell(person)


def programs(person, name):
    person.type(f"vi /tmp/text-{name}\n")
    # Its last line says in which mode it is.
    person.expect(b"- /tmp/text-")
    person.type("i")
    person.expect(b"I /tmp/text-")
    person.type("hello from vi\x1b")
    person.expect(b"- /tmp/text-")
    person.type(":wq\n")
    shell(person)
    same(f"{name}: vi", b"hello from vi", ask(person, f"cat /tmp/text-{name}", rb"\n(hello[^\r]*)\r\n").group(1))
    ask(person, "seq 1 500 >/tmp/lines", rb"\n")
    person.type("less /tmp/lines\n")
    person.expect(rb"\x1b\[K40\r\n")
    person.type(" ")
    result(bool(person.expect(rb"\x1b\[K80\r\n")), f"{name}: less turns the page")
    person.type("q")
    shell(person)
    person.type("top\n")
    result(bool(person.expect(rb"PID +PPID")), f"{name}: top")
    person.type("q")
    shell(person)


def run_in_the_foreground():
    person = Person(HULL, "run", "-b", WORK + "/shell", "person")
    shell(person)
    result(person.is_raw(), "run: the caller's terminal is raw meanwhile")
    same("run: the terminal's name", b"/dev/pts/0", ask(person, "tty", rb"\n(/dev/[^\r]*)\r\n").group(1))
    job_control(person, "run", "person")
    programs(person, "run")
    person.type("exit 42\n")
    same("run: exit status", 42, person.wait())
    same("run: the caller's terminal is as before", person.before, termios.tcgetattr(person.fd))
    os.close(person.fd)


def exec_in_the_foreground():
    person = Person(HULL, "exec", "-t", "c", "sh")
    shell(person)
    result(person.is_raw(), "exec: the caller's terminal is raw meanwhile")
    job_control(person, "exec", "c")
    programs(person, "exec")
    person.type("exit 43\n")
    same("exec: exit status", 43, person.wait())
    same("exec: the caller's terminal is as before", person.before, termios.tcgetattr(person.fd))
    os.close(person.fd)

    person = Person(HULL, "exec", "-t", "-u", "1000", "c", "sh", "-c", "ls -l $(tty); echo to >/dev/stdout; exec sleep 100")
    result(bool(person.expect(rb"crw--w----.* 1000 .*to\r\n")), "exec: the terminal is the user's")
    os.kill(person.pid, signal.SIGTERM)
    same("exec: SIGTERM is passed on", 143, person.wait())
    same("exec: the terminal is as before after SIGTERM", person.before, termios.tcgetattr(person.fd))
    os.close(person.fd)

    person = Person(HULL, "exec", "-t", "c", "nosuchprogram")
    result(bool(person.expect(rb"executable file not found")), "exec: an error is shown")
    same("exec: 255", 255, person.wait())
    same("exec: the terminal is as before after an error", person.before, termios.tcgetattr(person.fd))
    os.close(person.fd)

    reading, writing = os.pipe()
    os.write(writing, b"echo typed by a pipe\nexit 5\n")
    person = Person(HULL, "exec", "-t", "c", "sh", stdin=reading)
    result(bool(person.expect(rb"\ntyped by a pipe\r\n")), "exec: stdin is a pipe, the output a terminal")
    same("exec: its exit status", 5, person.wait())
    os.close(reading)
    os.close(writing)
    os.close(person.fd)

    person = Person(HULL, "exec", "-t", "c", "sh", "-c", "trap 'stty size; exit 8' WINCH; echo ready; while :; do sleep 0.1; done")
    person.expect(rb"ready")
    set_size(person.fd, 51, 121)
    result(bool(person.expect(rb"51 121")), "exec: SIGWINCH")
    same("exec: and its exit status", 8, person.wait())
    os.close(person.fd)

    person = Person(HULL, "exec", "-t", "c", "sh", "-c", "seq 1 20000; echo end")
    found = person.expect(rb"^(1\r\n.*\r\n20000\r\nend\r\n)")
    same("exec: 20,000 lines", 20001, found.group(1).count(b"\r\n"))
    same("exec: and its end", 0, person.wait())
    os.close(person.fd)


def processes(beginning):
    shown = subprocess.run([HULL, "exec", "c", "ps", "-o", "args"], stdin=subprocess.DEVNULL, capture_output=True).stdout.decode()
    return [line for line in shown.splitlines() if line.startswith(beginning)]


def eventually(check, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.2)
    return False


def hang_up():
    person = Person(HULL, "exec", "-t", "c", "sh", "-c", "trap 'echo hung up >/tmp/hup; exit 1' HUP; echo ready; while :; do sleep 0.1; done")
    person.expect(rb"ready")
    os.close(person.fd)
    result(person_ended(person.pid), "hang-up: hull exec ends")
    hung_up = lambda: subprocess.run([HULL, "exec", "c", "cat", "/tmp/hup"], stdin=subprocess.DEVNULL, capture_output=True).stdout == b"hung up\n"
    result(eventually(hung_up), "hang-up: the process gets SIGHUP")
    person = Person(HULL, "run", "-b", WORK + "/shell", "person")
    shell(person)
    os.close(person.fd)
    result(person_ended(person.pid), "hang-up: hull run ends with its shell")


def person_ended(pid):
    return eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] != 0)


def has_ended(pid):
    """Its parent may not have taken notice."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Engine(Screen):
    """Listens on a console socket, and gets a terminal there."""

    def __init__(self):
        self.path = f"{WORK}/console-{os.urandom(4).hex()}.sock"
        folder = os.open(WORK, os.O_PATH)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(self.path)}")
        self.listener.listen(1)
        self.listener.settimeout(PATIENCE)
        os.close(folder)
        self.shown = b""

    def take(self):
        connection, _ = self.listener.accept()
        message, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        self.fd = array.array("i", control[0][2][:4])[0]
        connection.close()
        os.unlink(self.path)
        return message


def console_socket(runtime, *options):
    """What an engine sees of a container with a terminal; the same for runc."""
    seen = []
    engine = Engine()
    bundle = WORK + "/" + ("runc" if "runc" in runtime[0] else "hull") + "-console"
    subprocess.run([*runtime, "create", "-b", bundle, "--console-socket", engine.path, *options, "console"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    seen.append(("message", engine.take()))
    set_size(engine.fd, 33, 77)
    subprocess.run([*runtime, "start", "console"], stdin=subprocess.DEVNULL, check=True)
    shell(engine)
    seen.append(("size", ask(engine, "stty size", rb"(\d+ \d+)\r\n").group(1)))
    set_size(engine.fd, 34, 78)
    seen.append(("new size", size_becomes(engine, b"34 78")))
    seen.append(("tty", ask(engine, "tty", rb"\n(/dev/[^\r]*)\r\n").group(1)))
    seen.append(("console", ask(engine, "stat -c '%F %u %a %t:%T' /dev/console", rb"\n(character[^\r]*)\r\n").group(1)))
    seen.append(("mount", ask(engine, "grep /dev/console /proc/mounts | cut -d' ' -f1-3", rb"\n(devpts[^\r]*)\r\n").group(1)))
    seen.append(("echo to console", ask(engine, "echo hello >/dev/console", rb"\n(hello)\r\n").group(1)))
    seen.append(("session", ask(engine, "echo leader $(cut -d' ' -f6 /proc/1/stat)", rb"\n(leader \d+)\r\n").group(1)))
    engine.type("exit\n")
    seen.append(("end", engine.at_end()))
    os.close(engine.fd)
    eventually(lambda: b'"stopped"' in subprocess.run([*runtime, "state", "console"], capture_output=True).stdout)
    subprocess.run([*runtime, "delete", "console"], check=True)
    return seen


def engines():
    theirs = dict(console_socket(["runc", "--root", WORK + "/runc-root"]))
    for what, value in console_socket([HULL]):
        same(f"console socket: {what} as with runc", theirs[what], value)

    engine = Engine()
    subprocess.run([HULL, "create", "-b", WORK + "/hull-console", "--console-socket", engine.path, "console"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    engine.take()
    subprocess.run([HULL, "start", "console"], stdin=subprocess.DEVNULL, check=True)
    shell(engine)
    os.close(engine.fd)
    stopped = lambda: b'"stopped"' in subprocess.run([HULL, "state", "console"], capture_output=True).stdout
    result(eventually(stopped), "console socket: the container hangs up with the engine")
    subprocess.run([HULL, "delete", "--force", "console"], check=True)

    engine = Engine()
    subprocess.run([HULL, "exec", "-d", "-t", "--console-socket", engine.path, "--pid-file", WORK + "/exec.pid", "c", "sh"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    engine.take()
    set_size(engine.fd, 35, 79)
    shell(engine)
    same("exec with a console socket: the window's size", b"35 79", size_becomes(engine, b"35 79"))
    pid = int(open(WORK + "/exec.pid").read())
    proxy_has_name = lambda: open(f"/proc/{pid}/comm").read().strip() == "hull-proxy"
    result(eventually(proxy_has_name), "exec with a console socket: the proxy")
    engine.type("sleep 4811\n")
    eventually(lambda: processes("sleep 4811"))
    os.close(engine.fd)
    result(eventually(lambda: not processes("sleep 4811")), "exec with a console socket: hang-up ends what runs there")
    result(eventually(lambda: has_ended(pid)), "exec with a console socket: and the proxy")


def pod_member():
    """A container that has joined a sandbox: bundle hull-console is one."""
    engine = Engine()
    subprocess.run([HULL, "create", "-b", WORK + "/hull-console", "--console-socket", engine.path, "--pid-file",
                    WORK + "/console.pid", "console"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    engine.take()
    set_size(engine.fd, 33, 77)
    subprocess.run([HULL, "start", "console"], stdin=subprocess.DEVNULL, check=True)
    shell(engine)
    same("member: the window's size", b"33 77", ask(engine, "stty size", rb"(\d+ \d+)\r\n").group(1))
    set_size(engine.fd, 34, 78)
    same("member: the window's size follows", b"34 78", size_becomes(engine, b"34 78"))
    same("member: the console", b"character", ask(engine, "stat -c %F /dev/console", rb"\n(character)[^\r]*\r\n").group(1))

    person = Person(HULL, "exec", "-t", "console", "sh")
    shell(person)
    same("member: exec -t: the window's size", b"30 100", ask(person, "stty size", rb"(\d+ \d+)\r\n").group(1))
    same("member: exec -t: another terminal", b"/dev/pts/1", ask(person, "tty", rb"\n(/dev/[^\r]*)\r\n").group(1))
    person.type("sleep 100\n")
    person.expect(rb"sleep 100\r\n")
    runs("console", "sleep 100")
    person.type("\x03")
    shell(person)
    same("member: exec -t: ^C", b"130", ask(person, "echo status $?", rb"status (\d+)\r\n").group(1))
    person.type("exit 44\n")
    same("member: exec -t: exit status", 44, person.wait())
    os.close(person.fd)

    os.close(engine.fd)
    stopped = lambda: b'"stopped"' in subprocess.run([HULL, "state", "console"], capture_output=True).stdout
    result(eventually(stopped), "member: hangs up with the engine")
    subprocess.run([HULL, "delete", "--force", "console"], check=True)


CASES = {case.__name__: case for case in (run_in_the_foreground, exec_in_the_foreground, hang_up, engines, pod_member)}
for case in [CASES[name] for name in sys.argv[3:]] or [run_in_the_foreground, exec_in_the_foreground, hang_up, engines]:
    try:
        case()
    except Exception as error:
        result(False, f"{case.__name__} comes to its end", repr(error))
        subprocess.run([HULL, "delete", "--force", "person"], check=False)
