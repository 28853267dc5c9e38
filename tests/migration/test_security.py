"""Who has not shown who it is gets nothing and can do nothing."""

from __future__ import annotations

import socket
import subprocess

import pytest

import wirt

SECRET = "what only the two of us know"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_secret_that_both_know(build, receive):
    address = f"tcp://127.0.0.1:{free_port()}"
    there = receive(address, secret=SECRET)
    vm = build()
    vm.start()
    vm.migrate(address, secret=SECRET)
    assert there.result().state == "running"


@pytest.mark.parametrize("secret", [None, "not what the two of us know"])
def test_without_the_secret_nothing_happens(build, receive, tmp_path, secret):
    there = receive(secret=SECRET)
    vm = build()
    vm.start()
    with pytest.raises(wirt.MigrationError):
        vm.migrate(there.address, secret=secret)
    assert vm.state == "running"
    # The receiver still waits for who knows it.
    vm.migrate(there.address, secret=SECRET)
    assert there.result().state == "running"


def test_strangers_are_told_nothing(receive, build):
    there = receive(secret=SECRET)
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n" * 4, bytes(4096), b"WIRTMIG\0\x01\0\x01\0" + bytes(32) + bytes(32)):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(there.address[5:])
            stranger.settimeout(15)
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            heard = b""
            try:
                while more := stranger.recv(4096):
                    heard += more
            except ConnectionError:
                pass
            # A greeting with a random number at most: no proof, no frame.
            assert len(heard) in (0, 44)
    vm = build()
    vm.migrate(there.address, secret=SECRET)
    assert there.result().state == "paused"


def test_guest_memory_does_not_cross_a_network_in_the_clear(build):
    vm = build()
    for address in ("tcp://192.0.2.1:4444", "tcp://example.org:1"):
        with pytest.raises(wirt.ConfigError, match="TLS"):
            vm.migrate(address, secret=SECRET)
    with pytest.raises(wirt.ConfigError, match="any user"):
        vm.migrate("tcp://127.0.0.1:4444")
    with pytest.raises(wirt.ConfigError, match="16 bytes"):
        vm.migrate("tcp://127.0.0.1:4444", secret="short")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, a certificate for each side, and one of somebody else."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for ca in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={ca}",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.pem",
        )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, ca in (("host", "ca"), ("guest", "ca"), ("stranger", "other")):
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{ca}.pem",
            "-CAkey",
            f"{ca}.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-extfile",
            "names",
        )

    return lambda name, ca="ca": {
        "cert": folder / f"{name}.pem",
        "key": folder / f"{name}.key",
        "ca": folder / f"{ca}.pem",
    }


@pytest.mark.parametrize("mode", ["precopy", "hybrid"])
def test_tls_with_certificates_of_both_sides(build, receive, certificates, mode):
    address = f"tcp://127.0.0.1:{free_port()}"
    there = receive(address, tls=certificates("host"))
    vm = build()
    vm.start()
    vm.console.expect("echo ready", timeout=600)
    with pytest.raises(wirt.MigrationError):
        vm.migrate(address, tls=certificates("stranger"))
    with pytest.raises(wirt.MigrationError):
        vm.migrate(address, tls=certificates("guest", "other"))
    assert vm.state == "running"
    vm.migrate(address, tls=certificates("guest"), streams=2, mode=mode)
    moved = there.result()
    moved.console.send("safe\n")
    moved.console.expect("echo: safe", timeout=600)
