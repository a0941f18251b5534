"""A RabbitMQ node of one's own: random ports, files in a temporary directory, gone at the end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import amqp
import pytest
from servers import free_port

PATIENCE = 60.0


# Debian's command changes from root to a user of its own, who may not write into our directory; this one does not.
UNWRAPPED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def server():
    return str(UNWRAPPED) if UNWRAPPED.exists() else shutil.which("rabbitmq-server")


def need_server():
    """Skip where RabbitMQ is not installed; in CI that is a failure."""
    if server() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("rabbitmq-server is not installed, and these tests must run in CI")
        pytest.skip("rabbitmq-server is not installed")


class Node:
    """A server that can be killed and started again with the same data."""

    def __init__(self, settings="", advanced=""):
        self.settings, self.advanced = settings, advanced
        self.home = Path(tempfile.mkdtemp(prefix="dingo-rabbit-"))
        self.port, self.tls_port, self.dist = (free_port() for _ in range(3))
        self.name = f"dingo{os.getpid()}p{self.port}@localhost"
        self.process = None

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def certificate(self):
        return self.home / "cert.pem"

    @property
    def tls_url(self):
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    def _tls(self):
        """Return the configuration of a listener for TLS, with a certificate made here."""
        if shutil.which("openssl") is None:
            return ""
        key = self.home / "key.pem"
        if not key.exists():
            command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
            alternative = ["-addext", "subjectAltName=DNS:localhost"]
            files = ["-keyout", str(key), "-out", str(self.certificate)]
            subprocess.run([*command.split(), *alternative, *files], check=True, capture_output=True)
        return (
            f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\nssl_options.certfile = {self.certificate}\n"
            f"ssl_options.keyfile = {key}\nssl_options.cacertfile = {self.certificate}\n"
            "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
        )

    def _environment(self):
        config = self.home / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\nlog.file.level = warning\n"
            "disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.relative = 0.8\n" + self._tls() + self.settings
        )
        advanced = self.home / "advanced.config"
        advanced.write_text(f"[{self.advanced}].\n")
        plugins = self.home / "enabled_plugins"
        plugins.write_text("[].\n")
        return {
            **os.environ,
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(advanced),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-setcookie dingo{self.port} "
            "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self):
        """Start it and wait until it speaks AMQP."""
        with (self.home / "output").open("ab") as output:
            # In the foreground and in a group of its own, so that all of it can be ended by its id.
            self.process = subprocess.Popen(
                [server()], env=self._environment(), cwd=self.home, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._speaks():
            if self.process.poll() is not None or time.monotonic() > until:
                said = (self.home / "output").read_text(errors="replace")[-3000:]
                self.kill()
                raise RuntimeError(f"the RabbitMQ node did not start: {said}")
            time.sleep(0.1)

    def _speaks(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as one:
            one.settimeout(2)
            one.sendall(b"AMQP\0\0\x09\x01")
            return one.recv(1) == b"\x01"
        return False

    def set(self, **settings):
        """Change settings of the running server, for connections made from now on (milliseconds)."""
        said = ", ".join(f"application:set_env(rabbit, {name}, {value})" for name, value in settings.items())
        self._control("eval", f"{said}.")

    def drop_connections(self):
        """Close all connections, as an operator would."""
        self._control("close_all_connections", "test")

    def _control(self, *command):
        control = Path(server()).with_name("rabbitmqctl")
        subprocess.run(
            [str(control), "-q", "-n", self.name, "--erlang-cookie", f"dingo{self.port}", *command],
            env=self._environment(), check=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip

    def delete(self, *queues):
        """Delete queues, whatever is in them and whether they are there or not."""
        connection = amqp.Connection(f"127.0.0.1:{self.port}")
        connection.connect()
        channel = connection.channel()
        for queue in queues:
            channel.queue_delete(queue)
        connection.close()

    def kill(self):
        """Kill it as a power cut would."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def remove(self):
        """Kill it and delete its files."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def running_node(settings="", advanced=""):
    """Give a node that runs. Settings are lines of its rabbitmq.conf, advanced ones entries of its advanced.config."""
    need_server()
    node = Node(settings, advanced)
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.fixture(scope="session")
def amqp_node():
    """A node that all tests of the session share. Nobody kills it."""
    with running_node() as node:
        yield node


@pytest.fixture(scope="session")
def rabbit_node():
    """A node to be killed, and started again."""
    with running_node() as node:
        yield node
