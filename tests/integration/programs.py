"""Real programs on free ports of 127.0.0.1, each with its files in a folder of its own. Used by
every integration test.

A program is asked for by its class, `shared(Squid, "http_access allow all")`; those that are asked
for with the same settings are one, which ends with the test run. (trial knows no setUpClass.)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import grp
import hashlib
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar
from unittest import SkipTest
from urllib.parse import unquote

from tests.support.authority import Pair
from tests.support.loopback import freePort

T = TypeVar("T")

HOST = "127.0.0.1"
# Seconds for anything that ends at once unless something is wrong: long enough for a machine that
# is busy with other things.
PATIENCE = 120.0
ME = pwd.getpwuid(os.getuid()).pw_name
AM_ROOT = os.getuid() == 0
NO_PROXY_SETTINGS = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


def required(name: str, folder: str = "") -> str:
    """The path of a program. Without it there is nothing to test, which is a failure under CI."""
    path = shutil.which(name, path=folder or f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return path or lacking(f"{name} is not installed")


def lacking(problem: str) -> NoReturn:
    """What a test is for is not there: it is skipped, and under CI it fails."""
    raise AssertionError(problem) if os.environ.get("CI") else SkipTest(problem)


def account(name: str) -> pwd.struct_passwd:
    """A user, whom a package that is installed only in part has not made."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        lacking(f"there is no user {name}")


def eventually(condition: Callable[[], T], what: str) -> T:
    """What `condition` returns, as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.02)
    return result


def openssl(*words: str, stdin: bytes = b"") -> bytes:
    """What openssl, which must succeed, writes to standard output."""
    command = [required("openssl"), *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, check=True, timeout=PATIENCE
    ).stdout


class Program:
    """A program that runs from here on until stop().

    @ivar user: whom it becomes, or has to be, where root starts it.
    @ivar inherits: descriptors that it gets beside the standard ones.
    @ivar folder: for its files; `user` may write there.
    @ivar port: where it listens.
    """

    user = ME
    inherits: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"ptunnel-{type(self).__name__}-"))
        self.port = freePort()
        self._log = self.folder / "output"
        try:
            self._command = self.arguments()
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start it, for the first time or after kill()."""
        if AM_ROOT:
            account(self.user)
            self.folder.chmod(0o755)
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, self.user)
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={**NO_PROXY_SETTINGS, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self.inherits,
            )
        eventually(self._readyOrGone, f"{self._command[0]} listens")

    def environment(self) -> Mapping[str, str]:
        """What it finds in its environment beside what the tests find there."""
        return {}

    def arguments(self) -> list[str]:
        """Write what it needs into the folder; return its command line."""
        raise NotImplementedError

    def ready(self) -> bool:
        return self.accepts()

    def accepts(self) -> bool:
        """Whether a client can connect."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def write(self, name: str, text: str) -> str:
        """Write a file; return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def output(self) -> str:
        """What it has written to standard output and standard error."""
        return self._log.read_text(errors="replace")

    def end(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it and what it has started as kill -9 does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        process = getattr(self, "process", None)
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _readyOrGone(self) -> bool:
        if self.process.poll() is not None:
            code = self.process.returncode
            raise AssertionError(f"{self._command[0]} ended with {code}: {self.output()}")
        return self.ready()


P = TypeVar("P", bound=Program)
_shared: list[Program] = []


@functools.cache
def shared(kind: type[P], *settings: str) -> P:
    """The program of this kind with these settings, started when it is first asked for."""
    program = kind(*settings)
    _shared.append(program)
    return program


@atexit.register
def _stopShared() -> None:
    for program in _shared:  # at the same time, because some take seconds
        program.process.terminate()
    for program in _shared:
        program.stop()


@dataclass(frozen=True)
class Seen:
    """A request that Squid has dealt with.

    @ivar status: that of its answer.
    @ivar user: whom it came from, or "-".
    @ivar authorization: its Proxy-Authorization, or "-".
    """

    status: int
    user: str
    target: str
    authorization: str

    @property
    def scheme(self) -> str:
        """What it was authenticated with, of NTLM with the number of the message; or "-"."""
        scheme, _, token = self.authorization.partition(" ")
        return f"NTLM {b64decode(token)[8]}" if scheme == "NTLM" else scheme


class Squid(Program):
    """Squid, with the rules that a test gives it."""

    user = "proxy"
    # Squid's own defaults, as its default configuration file has them.
    DEFAULT = """
        acl SSL_ports port 443
        acl CONNECT method CONNECT
        http_access deny CONNECT !SSL_ports
        http_access allow localhost
        http_access deny all
    """
    OPEN = "http_access allow all"

    def __init__(self, rules: str = OPEN) -> None:
        self.rules = rules
        self._markPort = freePort()
        self._marks = itertools.count()
        super().__init__()

    def arguments(self) -> list[str]:
        # The buffer: when it is full, Squid 5 takes that for the end of its client.
        config = f"""
            {self.listening()}
            http_port {HOST}:{self._markPort}
            client_request_buffer_max_size 2000 MB
            {self.rules}
            visible_hostname squid.test
            pid_filename none
            pinger_enable off
            logformat seen %>Hs %un %ru %{{Proxy-Authorization}}>h
            access_log stdio:{self.folder}/access.log logformat=seen
            buffered_logs off
            cache_log {self.folder}/cache.log
            coredump_dir {self.folder}
            cache deny all
            max_filedescriptors 4096
            shutdown_lifetime 0 seconds
        """
        # By its name it tells its shared memory from that of other Squids.
        name = f"ptunnel{self.port}"
        return [required("squid"), "-N", "-d1", "-n", name, "-f", self.write("squid.conf", config)]

    def listening(self) -> str:
        """The line about the port."""
        return f"http_port {HOST}:{self.port}"

    def seen(self, target: str) -> list[Seen]:
        """All requests for a target that have ended; a tunnel ends with its connections."""
        # Squid logs in the order in which requests end: what ended before this one is there.
        mark = f"http://{HOST}:1/mark-{next(self._marks)}"
        with socket.create_connection((HOST, self._markPort), PATIENCE) as client:
            client.sendall(b"GET %b HTTP/1.0\r\n\r\n" % mark.encode())
            with client.makefile("rb") as answer:
                answer.read()
        eventually(lambda: any(seen.target == mark for seen in self._seen()), "the mark is logged")
        return [seen for seen in self._seen() if seen.target == target]

    def _seen(self) -> list[Seen]:
        lines = (self.folder / "access.log").read_text().splitlines(keepends=True)
        fields = (line.split() for line in lines if line.endswith("\n"))
        return [Seen(int(status), user, *map(unquote, rest)) for status, user, *rest in fields]


class SquidWithLogin(Squid):
    """Squid for those whom it knows."""

    def arguments(self) -> list[str]:
        self.rules = f"""
            {self.authentication()}
            acl known proxy_auth REQUIRED
            http_access allow known
            http_access deny all
        """
        return super().arguments()

    def authentication(self) -> str:
        """The lines about the scheme."""
        raise NotImplementedError


class SquidWithPassword(SquidWithLogin):
    """Squid for those who know a password, by Basic."""

    REALM = "squid.test"

    def __init__(self, user: str, password: str) -> None:
        self.credentials = user, password
        super().__init__()

    def authentication(self) -> str:
        return self.basic()

    def basic(self) -> str:
        user, password = self.credentials
        hashed = openssl("passwd", "-apr1", "-stdin", stdin=password.encode()).decode()
        users = self.write("users", f"{user}:{hashed}")
        helper = required("basic_ncsa_auth", "/usr/lib/squid")
        return f"""
            auth_param basic program {helper} {users}
            auth_param basic children 1
        """

    def digest(self) -> str:
        user, password = self.credentials
        hashed = hashlib.md5(f"{user}:{self.REALM}:{password}".encode()).hexdigest()
        users = self.write("digests", f"{user}:{self.REALM}:{hashed}\n")
        helper = required("digest_file_auth", "/usr/lib/squid")
        return f"""
            auth_param digest program {helper} -c {users}
            auth_param digest realm {self.REALM}
            auth_param digest children 1
        """

    def ntlm(self) -> str:
        user, password = self.credentials
        # The one that every user may run.
        python = required("python3", "/usr/bin")
        # MD4 is one of the digests that Python may have been built without.
        legacy = ("-provider", "legacy", "-provider", "default")
        hashed = openssl("dgst", "-md4", "-r", *legacy, stdin=password.encode("utf-16-le"))
        known = hashed.split()[0].decode()
        helper = self.folder / "ntlmhelper.py"
        shutil.copy(Path(__file__).with_name(helper.name), helper)
        return f"""
            auth_param ntlm program {python} -I {helper} {user} {known}
            auth_param ntlm children 20 startup=1 idle=1
        """


class SquidWithDigest(SquidWithPassword):
    """Squid for those who know a password, by Digest. A nonce of its is good for few requests."""

    NONCE_COUNT = 4

    def authentication(self) -> str:
        return f"{self.digest()} auth_param digest nonce_max_count {self.NONCE_COUNT}"


class SquidWithNtlm(SquidWithPassword):
    """Squid for those who know a password, by NTLM."""

    def authentication(self) -> str:
        return self.ntlm()


class SquidWithFakeNtlm(SquidWithLogin):
    """Squid for those who speak NTLM, whatever they know."""

    def authentication(self) -> str:
        helper = required("ntlm_fake_auth", "/usr/lib/squid")
        return f"""
            auth_param ntlm program {helper}
            auth_param ntlm children 5
        """


class SquidWithEveryPassword(SquidWithPassword):
    """Squid for those who know a password, by a scheme of their choice."""

    def authentication(self) -> str:
        return self.basic() + self.digest() + self.ntlm()


class SquidWithTls(Squid):
    """Squid that is reached over TLS, with what a test has had certified."""

    def __init__(self, certificate: str, key: str, clientAuthority: str = "") -> None:
        """
        @param certificate: the path of its certificate; the other two are paths as well.
        @param clientAuthority: of whom it wants its clients to have a certificate; "": of nobody.
        """
        self._tls = [("tls-cert", certificate), ("tls-key", key)]
        if clientAuthority:
            self._tls.append(("clientca", clientAuthority))
        super().__init__()

    def listening(self) -> str:
        squid = required("squid")
        built = subprocess.run([squid, "-v"], check=True, capture_output=True, timeout=PATIENCE)
        if b"--with-openssl" not in built.stdout:
            lacking("squid was built without OpenSSL; Debian's squid-openssl has it")
        words = [f"https_port {HOST}:{self.port}"]
        for option, source in self._tls:  # copied to where Squid's user can read them
            words.append(f"{option}={shutil.copy(source, self.folder / option)}")
        return " ".join(words)


class Tinyproxy(Program):
    """Tinyproxy, which allows CONNECT to any port."""

    user = "tinyproxy"

    def arguments(self) -> list[str]:
        config = f"Port {self.port}\nListen {HOST}\nMaxClients 100\nTimeout 600\n"
        return [required("tinyproxy"), "-d", "-c", self.write("tinyproxy.conf", config)]


class Apache(Program):
    """Apache with mod_proxy_connect, for any port."""

    MODULES = ("mpm_event", "authz_core", "proxy", "proxy_connect")

    def arguments(self) -> list[str]:
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in self.MODULES
        )
        config = f"""
            ServerRoot {self.folder}
            ServerName apache.test
            {modules}
            Listen {HOST}:{self.port}
            User www-data
            PidFile {self.folder}/pid
            ErrorLog {self.folder}/error.log
            DocumentRoot {self.folder}
            ProxyRequests on
            AllowCONNECT 1-65535
        """
        return [required("apache2"), "-DFOREGROUND", "-f", self.write("apache.conf", config)]


class Privoxy(Program):
    """Privoxy, which allows CONNECT to any port."""

    def arguments(self) -> list[str]:
        config = f"""
            confdir /etc/privoxy
            logdir {self.folder}
            listen-address {HOST}:{self.port}
        """
        config = "\n".join(line.strip() for line in config.splitlines())
        return [required("privoxy"), "--no-daemon", self.write("config", config)]


class Haproxy(Program):
    """HAProxy before proxies, as a balancer."""

    def __init__(self, backend: str) -> None:
        """@param backend: its rules, and its servers."""
        self._backend = backend
        super().__init__()

    def arguments(self) -> list[str]:
        config = f"""
            global
                maxconn 100
            defaults
                mode http
                timeout connect 5s
                timeout client 60s
                timeout server 5s
                timeout queue 1s
            frontend clients
                bind {HOST}:{self.port}
                default_backend proxies
            backend proxies
                {self._backend}
        """
        return [required("haproxy"), "-db", "-f", self.write("haproxy.cfg", f"{config}\n")]


class TcpHaproxy(Program):
    """HAProxy before a server of plain TCP.

    @param server: its line `server`.
    @param bind: what its line `bind` has behind the address.
    """

    def __init__(self, server: str, bind: str = "") -> None:
        self._server = server
        self._bind = bind
        super().__init__()

    def arguments(self) -> list[str]:
        config = f"""
            global
                maxconn 100
            defaults
                mode tcp
                timeout connect 5s
                timeout client 60s
                timeout server 60s
                timeout check 30s
            frontend clients
                bind {HOST}:{self.port} {self._bind}
                default_backend servers
            backend servers
                {self._server}
        """
        return [required("haproxy"), "-db", "-f", self.write("haproxy.cfg", f"{config}\n")]


class Nginx(Program):
    """Nginx with one page."""

    PAGE = "The page.\n" * 5000

    def arguments(self) -> list[str]:
        self.write("page", self.PAGE)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        config = f"""
            daemon off;
            master_process off;
            error_log stderr;
            pid {self.folder}/pid;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {temporary}
                server {{ listen {HOST}:{self.port}; root {self.folder}; }}
            }}
        """
        return [required("nginx"), "-p", str(self.folder), "-c", self.write("nginx.conf", config)]


class HeaderNginx(Program):
    """Nginx that wants a PROXY header, and answers with the client's address in it. It listens on
    the Unix socket `socket` in its folder too.

    @param pair: its certificate, for TLS behind the header; None: plain.
    """

    def __init__(self, pair: Pair | None = None) -> None:
        self._pair = pair
        super().__init__()

    def arguments(self) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        pair = self._pair
        secure = f"ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};" if pair else ""
        config = f"""
            daemon off;
            master_process off;
            error_log stderr;
            pid {self.folder}/pid;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {temporary}
                server {{
                    listen {HOST}:{self.port} {"ssl" if pair else ""} proxy_protocol;
                    listen unix:{self.folder}/socket {"ssl" if pair else ""} proxy_protocol;
                    {secure}
                    return 200 "$proxy_protocol_addr:$proxy_protocol_port";
                }}
            }}
        """
        return [required("nginx"), "-p", str(self.folder), "-c", self.write("nginx.conf", config)]


class Sshd(Program):
    """OpenSSH's server, which knows one key for the user who runs the tests."""

    def arguments(self) -> list[str]:
        for name in ("host", "user"):
            self._keygen(name)
        host, user = ((self.folder / f"{name}.pub").read_text() for name in ("host", "user"))
        # Under this name, so that a test which gets through knows where it has got to.
        self.write("known_hosts", f"sshd.test {host}")
        config = f"""
            Port {self.port}
            ListenAddress {HOST}
            HostKey {self.folder}/host
            AuthorizedKeysFile {self.write("authorized_keys", user)}
            PidFile none
            UsePAM no
            StrictModes no
            Subsystem sftp internal-sftp
        """
        if AM_ROOT:
            os.makedirs("/run/sshd", exist_ok=True)  # which its package leaves to systemd
        return [required("sshd"), "-D", "-e", "-f", self.write("sshd_config", config)]

    def scp(self, *words: str) -> None:
        """Run scp, which must succeed, as somebody whom the server knows."""
        options = [
            "BatchMode=yes",
            f"IdentityFile={self.folder}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            "HostKeyAlias=sshd.test",
            f"User={ME}",
        ]
        done = subprocess.run(
            [required("scp"), "-q", "-F", "none", *(f"-o{option}" for option in options), *words],
            env=NO_PROXY_SETTINGS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise AssertionError(f"scp: {done.stderr}{self.output()}")

    def _keygen(self, name: str) -> None:
        command = [required("ssh-keygen"), "-q", "-t", "ed25519", "-N", ""]
        subprocess.run([*command, "-f", self.folder / name], check=True, timeout=PATIENCE)


class Dovecot(Program):
    """Dovecot's IMAP, without TLS; any user may log in with PASSWORD."""

    PASSWORD = "dovecot-password"
    # Dovecot keeps mail away from root: there it belongs to this user, who comes with the package.
    user = "dovenull" if AM_ROOT else ME
    group = "nogroup" if AM_ROOT else grp.getgrgid(os.getgid()).gr_name

    def arguments(self) -> list[str]:
        (self.folder / "mail").mkdir()
        config = f"""
            base_dir = {self.folder}/run
            state_dir = {self.folder}/state
            log_path = /dev/stderr
            listen = {HOST}
            first_valid_uid = 1
            mail_location = maildir:{self.folder}/mail
            passdb {{
              driver = static
              args = password={self.PASSWORD}
            }}
            userdb {{
              driver = static
              args = uid={self.user} gid={self.group} home={self.folder}/mail
            }}
            {self.services()}
        """
        if not AM_ROOT:
            config += self._asMyself()
        return [required("dovecot"), "-F", "-c", self.write("dovecot.conf", config)]

    def services(self) -> str:
        """The lines about its protocols, their ports and their security."""
        return f"""
            protocols = imap
            ssl = no
            disable_plaintext_auth = no
            {self.login("imap", imap=self.port, imaps=0)}
        """

    def login(self, name: str, **ports: int) -> str:
        """The lines about a protocol's ports."""
        listeners = "".join(
            f"inet_listener {listener} {{\nport = {port}\n}}\n" for listener, port in ports.items()
        )
        return f"service {name}-login {{\n{listeners}}}\n"

    def _asMyself(self) -> str:
        unrooted = "".join(
            f"service {name} {{\nchroot =\n}}\n"
            for name in ("anvil", "imap-login", "pop3-login", "stats")
        )
        return f"""
            default_internal_user = {ME}
            default_internal_group = {self.group}
            default_login_user = {ME}
            {unrooted}
        """


class SecureDovecot(Dovecot):
    """Dovecot's IMAP and POP3, with logins under TLS only.

    @ivar port: of IMAP with STARTTLS; the others are named.
    """

    def __init__(self, certificate: str, key: str) -> None:
        """Takes paths."""
        self._pair = certificate, key
        self.imaps, self.pop3, self.pop3s = freePort(), freePort(), freePort()
        super().__init__()

    def services(self) -> str:
        certificate, key = self._pair
        return f"""
            protocols = imap pop3
            ssl = required
            ssl_cert = <{certificate}
            ssl_key = <{key}
            {self.login("imap", imap=self.port, imaps=self.imaps)}
            {self.login("pop3", pop3=self.pop3, pop3s=self.pop3s)}
        """


class Postgres(Program):
    """PostgreSQL for one user, who must come over TLS and know the password."""

    USER = "alice"
    PASSWORD = "postgres-password"
    user = "postgres" if AM_ROOT else ME

    def __init__(self, certificate: str, key: str) -> None:
        """Takes paths."""
        self._pair = certificate, key
        super().__init__()

    def arguments(self) -> list[str]:
        password = self.write("password", self.PASSWORD)
        certificate, key = (shutil.copy(path, self.folder) for path in self._pair)
        os.chmod(key, 0o600)
        data = self.folder / "data"
        data.mkdir(0o700)
        for path in (self.folder, *self.folder.iterdir()):
            shutil.chown(path, self.user)
        initdb = [*self._as(), self._program("initdb"), "--no-sync", "--locale=C"]
        initdb += [f"--username={self.USER}", f"--pwfile={password}", f"--pgdata={data}"]
        initdb.append("--auth=scram-sha-256")
        subprocess.run(
            initdb, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE
        )
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.0/8 scram-sha-256\n")
        options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
            "fsync": "off",
        }
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        port = ["-p", str(self.port)]
        return [*self._as(), self._program("postgres"), "-D", str(data), *port, *words]

    def _program(self, name: str) -> str:
        """Debian has them in a folder for each version, off the path."""
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        return required(name, f"{folders[-1]}" if folders else "")

    def _as(self) -> list[str]:
        if not AM_ROOT:
            return []
        return [
            required("setpriv"),
            f"--reuid={self.user}",
            f"--regid={self.user}",
            "--init-groups",
        ]


class Slapd(Program):
    """OpenLDAP's server with one entry, which it tells nobody without TLS."""

    BASE = "dc=ldap,dc=test"
    ADMIN = f"cn=admin,{BASE}"
    PASSWORD = "slapd-password"

    def __init__(self, certificate: str, key: str) -> None:
        """Takes paths."""
        self._pair = certificate, key
        super().__init__()

    def arguments(self) -> list[str]:
        (self.folder / "data").mkdir()
        certificate, key = self._pair
        config = f"""
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {self.folder}/pid
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
security tls=1
database mdb
maxsize 10485760
suffix {self.BASE}
rootdn {self.ADMIN}
rootpw {self.PASSWORD}
directory {self.folder}/data
"""
        path = self.write("slapd.conf", config)
        entry = f"dn: {self.BASE}\nobjectClass: dcObject\nobjectClass: organization\n"
        entry += "dc: ldap\no: The Organization\n"
        add = [required("slapadd"), "-q", "-f", path]
        subprocess.run(add, input=entry.encode(), check=True, timeout=PATIENCE, capture_output=True)
        return [required("slapd"), "-d", "0", "-h", f"ldap://{HOST}:{self.port}", "-f", path]


class Postfix(Program):
    """Postfix, which takes mail for anybody at DOMAIN under TLS only, into one folder."""

    DOMAIN = "smtp.test"
    user = "postfix"
    LIBRARY = "/usr/lib/postfix/sbin"
    PROGRAMS = ("master", "smtpd", "cleanup", "qmgr", "tlsmgr", "virtual", "postlogd")
    QUEUE = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")
    QUEUE += ("maildrop", "pid", "private", "public", "saved", "trace")

    def __init__(self, certificate: str, key: str) -> None:
        """Takes paths."""
        if not AM_ROOT:
            raise SkipTest("Postfix is to be started by root")
        self._pair = certificate, key
        super().__init__()

    def arguments(self) -> list[str]:
        certificate, key = self._pair
        for program in self.PROGRAMS:
            required(program, self.LIBRARY)
        for name in ("data", "mail", *(f"queue/{name}" for name in self.QUEUE)):
            (self.folder / name).mkdir(parents=True)
        owner = account(self.user)
        self.write(
            "main.cf",
            f"""
compatibility_level = 3.6
queue_directory = {self.folder}/queue
data_directory = {self.folder}/data
maillog_file = {self.folder}/maillog
maillog_file_prefixes = {self.folder}
inet_interfaces = {HOST}
smtpd_peername_lookup = no
myhostname = {self.DOMAIN}
mydestination =
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = {self.DOMAIN}
virtual_mailbox_base = {self.folder}
virtual_mailbox_maps = static:mail/
virtual_minimum_uid = 1
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
""",
        )
        self.write(
            "master.cf",
            f"""
{HOST}:{self.port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""",
        )
        return [required("master", self.LIBRARY), "-d", "-c", str(self.folder)]

    def mail(self) -> list[bytes]:
        """The messages that have come."""
        return [path.read_bytes() for path in (self.folder / "mail" / "new").glob("*")]


class Ptunnel(Program):
    """ptunnel with one tunnel, of which the port is the one that it says it has chosen."""

    COMMAND = (sys.executable, "-m", "ptunnel")

    def __init__(
        self,
        *words: str,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = [*command, *words]
        self._environment = environment or {}
        super().__init__()

    def arguments(self) -> list[str]:
        return self._arguments

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def ready(self) -> bool:
        line = _LISTENING.search(self.output())
        if line is not None:
            self.port = int(line[1])
        return line is not None

    def lines(self) -> list[str]:
        """What it has logged, but for how it starts and stops."""
        return [line for line in self.output().splitlines() if not _EXPECTED.search(line)]


IN_CLEAR = "asks for Basic: user name and password go to it in clear"
_LISTENING = re.compile(r"\blistening on \S+:(\d+), ")
# The second: a session may not know yet that its client has gone. The third: what the tests of
# authentication look for.
_EXPECTED = re.compile(rf"{_LISTENING.pattern}|stopping: waiting for |{IN_CLEAR}")
