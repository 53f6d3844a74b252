# SPDX-License-Identifier: GPL-2.0-or-later
"""Every parameter of the agent, declared once.

From the class `Parameters` come the values an action works with, the sentences about values that are wrong, the XML
that `meta-data` prints and the tables in the documentation. Names and defaults are those of ocf:heartbeat:pgsql.

Rules that hold for all of them:

- A parameter that is unset and one that is set to the empty string are the same: both give the default. (The shell
  agent keeps an explicit empty string; wherever its default is not empty, that made it fail or meant nothing.)
- `Parameters(environ)` never raises. A wrong value is a `Problem`, and reading the parameter then gives its default, so
  that `monitor` and `stop` can do what is possible without it. `pgdata` alone is kept as it was written: falling back
  to the default could stop a server that the administrator never named.
- Only what is wrong on every node is a problem here. Whether a file, a user or a program exists is looked at by the
  actions on their own node.

This module is imported by every action, so it imports nothing that costs start-up time.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Required,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

PREFIX: Final = "OCF_RESKEY_"

RepMode = Literal["none", "async", "sync", "slave"]
SynchronousMethod = Literal["first", "quorum"]
RejoinPolicy = Literal["safe", "rewind", "copy", "manual"]

T = TypeVar("T")
C = TypeVar("C", bound=str)

# What ocf_is_true of resource-agents takes for true, and its counterparts. Other spellings ("Yes", "enabled") are
# false to the shell agents without a word; here they are a problem, because the administrator meant something.
TRUE_WORDS: Final = ("yes", "true", "1", "YES", "TRUE", "True", "ja", "on", "ON")
FALSE_WORDS: Final = ("no", "false", "0", "NO", "FALSE", "False", "off", "OFF")

# PostgreSQL cuts longer identifiers off (NAMEDATALEN - 1), which would make two slots one.
SLOT_NAME_MAX_BYTES: Final = 63
SLOT_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")

# More of a value than this is not shown in a sentence.
SHOWN_CHARACTERS: Final = 80
# Enough for every number in range; int() itself refuses thousands of digits with an exception of its own.
INTEGER_DIGITS: Final = 18
INTEGER_HIGH: Final = 2**31 - 1


class Problem(NamedTuple):
    """A value that cannot be right on any node. `value` and `sentence` never hold the value of a secret parameter."""

    parameter: str
    value: str
    sentence: str


class Refused(Exception):
    """A value was not accepted; the text completes "it must be ..."."""


def quoted(text: str) -> str:
    """`text` as it may appear in a sentence: quoted, printable, on one line, and of bounded length."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


class About(TypedDict, total=False):
    """What every declaration says besides its type: texts in plain English, blank lines between paragraphs."""

    shortdesc: Required[str]
    longdesc: Required[str]
    reloadable: bool
    secret: bool
    multiline: bool
    deprecated: str


class Parameter(Generic[T]):
    """One declared parameter: a descriptor that reads as a `T` on an instance and as the declaration on the class."""

    xml_type: ClassVar[str] = "string"

    def __init__(self, default: T, **about: Unpack[About]) -> None:
        self.name = ""
        self.default = default
        self.shortdesc = about["shortdesc"]
        self.longdesc = about["longdesc"]
        self.reloadable = about.get("reloadable", False)
        self.secret = about.get("secret", False)
        self.multiline = about.get("multiline", False)
        self.deprecated = about.get("deprecated", "")

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Parameters", owner: type) -> T: ...
    def __get__(self, instance: "Parameters | None", owner: type) -> Self | T:
        return self if instance is None else self.read(instance)

    @property
    def default_text(self) -> str:
        """The default as an administrator would write it."""
        return str(self.default)

    def options(self) -> tuple[str, ...]:
        """The words allowed, for a parameter of type select; otherwise nothing."""
        return ()

    def read(self, parameters: "Parameters") -> T:
        """The value in force."""
        text = parameters.text(self.name)
        if not text:
            return self.fallback(parameters)
        try:
            return self.accept(text)
        except Refused:
            return self.fallback(parameters)

    def fallback(self, parameters: "Parameters") -> T:  # noqa: ARG002 - for those whose default depends on another
        """The value of an unset or refused parameter."""
        return self.default

    def accept(self, text: str) -> T:
        """The value of `text`, which is not empty. Raises Refused."""
        if not text.isprintable():
            if not self.multiline and ("\n" in text or "\r" in text):
                raise Refused("one line, without a line break")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise Refused("valid UTF-8")
        return self.parse(text)

    def parse(self, text: str) -> T:
        """The value of `text`, which is not empty and one line. Raises Refused."""
        raise NotImplementedError

    def shown(self, text: str) -> str:
        """`text` as it may appear in logs: quoted, and never a secret."""
        return "(not shown)" if self.secret else quoted(text)

    def problem(self, text: str) -> Problem | None:
        """What is wrong with this value taken alone, if anything."""
        if not text:
            return None
        try:
            self.accept(text)
        except Refused as refused:
            back = f"its default {self.default_text!r}" if self.default_text else "no value"
            sentence = (
                f"parameter {self.name} is {self.shown(text)}, but it must be {refused}: "
                f"correct it in the cluster's configuration, or remove it to go back to {back}"
            )
            return Problem(self.name, self.shown(text), sentence)
        return None


class Text(Parameter[str]):
    """Any text on one line."""

    def parse(self, text: str) -> str:
        return text


class Words(Text):
    """Options of a program, in words as a shell reads them."""

    def parse(self, text: str) -> str:
        import shlex

        try:
            shlex.split(text)
        except ValueError as error:
            raise Refused("words as a shell reads them, each quote closed") from error
        return text


class Path(Parameter[str]):
    """An absolute path; the working directory of an action is Pacemaker's, so a relative one would mean nothing."""

    def parse(self, text: str) -> str:
        if not text.startswith("/"):
            raise Refused("an absolute path, beginning with /")
        return text


class DataDirectory(Path):
    """A path that is kept even if it is refused; the module's introduction says why."""

    def fallback(self, parameters: "Parameters") -> str:
        return parameters.text(self.name) or self.default


class FileInDirectory(Path):
    """A path whose default is a file in the directory that another parameter names."""

    def __init__(self, directory: Path, file_name: str, **about: Unpack[About]) -> None:
        super().__init__(f"{directory.default}/{file_name}", **about)
        self.directory = directory
        self.file_name = file_name

    def fallback(self, parameters: "Parameters") -> str:
        return f"{self.directory.read(parameters).rstrip('/')}/{self.file_name}"


class Integer(Parameter[int]):
    """A whole number within limits, in decimal digits and without a unit."""

    xml_type: ClassVar[str] = "integer"

    def __init__(self, default: int, *, low: int, high: int = INTEGER_HIGH, **about: Unpack[About]) -> None:
        super().__init__(default, **about)
        self.low = low
        self.high = high

    def parse(self, text: str) -> int:
        digits = text.strip()
        unsigned = digits.removeprefix("-")
        # int() alone would also take "1_000", "+5" and digits of other scripts.
        if unsigned.isascii() and unsigned.isdigit() and len(unsigned) <= INTEGER_DIGITS:
            number = int(digits)
            if self.low <= number <= self.high:
                return number
        limits = f"{self.low} or more" if self.high == INTEGER_HIGH else f"from {self.low} to {self.high}"
        raise Refused(f"a whole number, {limits}, without a unit")


class Boolean(Parameter[bool]):
    """Yes or no, in the spellings of the OCF shell functions."""

    xml_type: ClassVar[str] = "boolean"

    @property
    def default_text(self) -> str:
        return "true" if self.default else "false"

    def parse(self, text: str) -> bool:
        word = text.strip()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise Refused(f"one of {', '.join(TRUE_WORDS)} (for true) or {', '.join(FALSE_WORDS)} (for false)")


class Choice(Parameter[C]):
    """One word of a fixed few, written exactly so."""

    xml_type: ClassVar[str] = "select"

    def __init__(self, default: C, words: tuple[C, ...], **about: Unpack[About]) -> None:
        super().__init__(default, **about)
        self.words = words

    def options(self) -> tuple[str, ...]:
        return self.words

    def parse(self, text: str) -> C:
        for word in self.words:
            if text.strip() == word:
                return word
        raise Refused(f"one of {', '.join(self.words)}")


class Names(Parameter[tuple[str, ...]]):
    """Names separated by blanks, in lower case as they are compared everywhere, and in the order given."""

    def __init__(self, **about: Unpack[About]) -> None:
        super().__init__((), **about)

    @property
    def default_text(self) -> str:
        return " ".join(self.default)

    def parse(self, text: str) -> tuple[str, ...]:
        names = tuple(text.lower().split())
        for name in names:
            if any(character in ",;\"'\\" for character in name):
                raise Refused("names separated by blanks, without commas, quotes or backslashes")
            if names.count(name) > 1:
                raise Refused(
                    f"a list with every name once (upper and lower case are the same; {quoted(name)} is twice)"
                )
        return names


class SlotPrefix(Parameter[str]):
    """The beginning of a replication slot's name."""

    def parse(self, text: str) -> str:
        if not SLOT_CHARACTERS.issuperset(text):
            raise Refused("made of lower case letters a-z, digits and underscores only")
        return text


class Parameters:
    """The parameters of one action. Attributes have the type declared; `problems` says what is wrong with them."""

    __slots__ = ("_texts",)

    # The server on this node

    pgctl = Text(
        "/usr/bin/pg_ctl",
        shortdesc="Program pg_ctl",
        longdesc="""
            Path of pg_ctl of the PostgreSQL version that owns the data directory. On Debian and Ubuntu this is
            /usr/lib/postgresql/VERSION/bin/pg_ctl. The other programs of the server (pg_controldata, pg_rewind,
            pg_basebackup, postgres) are taken from the same directory.

            If the program is missing on a node, nothing can be started there.
            """,
    )
    pgdata = DataDirectory(
        "/var/lib/pgsql/data",
        shortdesc="Data directory",
        longdesc="""
            Absolute path of the data directory (PGDATA). It must belong to the user named in pgdba and have mode 0700
            or 0750. The server that the agent starts, watches and stops is the one that runs on this directory, so no
            two resources may name the same one.
            """,
    )
    pgdba = Text(
        "postgres",
        shortdesc="System user that owns the server",
        longdesc="""
            System user that owns the data directory. The server and its programs run as this user. In the replication
            modes the server has to let the database user of that name in from this node without a password, also if
            monitor_user is set (Unix socket; peer in pg_hba.conf): the agent makes slots, checkpoints and messages in
            the WAL as this user.
            """,
    )
    config = FileInDirectory(
        pgdata,
        "postgresql.conf",
        shortdesc="Main configuration file",
        longdesc="""
            Absolute path of the server's main configuration file. If it is not set, it is postgresql.conf in the data
            directory (pgdata), wherever that is. On Debian and Ubuntu it is
            /etc/postgresql/VERSION/CLUSTER/postgresql.conf.

            In the replication modes the agent adds include lines for its own settings at the end of this file. Each
            of them is marked with a comment; leave them there.
            """,
    )
    start_opt = Words(
        "",
        shortdesc="Options for the server",
        longdesc="""
            Further options for the postgres process, as they would be given to pg_ctl in its option -o. Example:
            "-c shared_buffers=4GB". Do not set the data directory, the configuration file or settings of replication
            and recovery here: the agent sets them, and refuses a recovery target.
            """,
    )
    ctl_opt = Words(
        "",
        shortdesc="Options for pg_ctl",
        longdesc="""
            Further options for pg_ctl when it starts the server. Waiting (-w, -W, -t) is the agent's own business.
            """,
    )
    pglibs = Text(
        "/usr/lib",
        shortdesc="Library directory",
        longdesc="""
            Directory that is added at the end of LD_LIBRARY_PATH for the server and its programs. Only an installation
            outside the system's own paths needs it.
            """,
    )
    logfile = Text(
        "/dev/null",
        shortdesc="File for the server's early output",
        longdesc="""
            File that receives what the server writes to its standard output and standard error, that is everything
            until its own logging has started. It is created for the user named in pgdba if it does not exist. With the
            default /dev/null the reason of a failed start may be lost, so a real file is worth having.
            """,
    )
    socketdir = Path(
        "",
        shortdesc="Directory of the Unix socket",
        longdesc="""
            Directory of the server's Unix socket, as in its setting unix_socket_directories. It is made before the
            server starts (mode 2775, owner pgdba) if it does not exist, as after a boot below /run. Where the agent
            connects to is told by the running server, whatever this parameter is.

            On Debian and Ubuntu the value is /var/run/postgresql.
            """,
    )
    pghost = Text(
        "",
        shortdesc="Address the server listens on",
        longdesc="""
            Host name or IP address. If it is set, the server is started with it as its listen address. If it is not
            set, the server listens where its configuration says, which is the better choice in nearly every case. The
            agent connects through the Unix socket if the running server has one.
            """,
    )
    pgport = Integer(
        5432,
        low=1,
        high=65535,
        shortdesc="Port of the server",
        longdesc="""
            TCP port, and number in the name of the Unix socket: 1 to 65535. The server uses it unless its configuration
            or start_opt names another one, and standbys connect to it at the primary, so it must be the same on all
            nodes and agree with the server's configuration.
            """,
    )
    pgdb = Text(
        "template1",
        reloadable=True,
        shortdesc="Database for monitoring",
        longdesc="""
            Database that the agent connects to. While it is connected, nobody can use this database as a template
            for CREATE DATABASE; set it to postgres if that gets in the way.
            """,
    )

    # Watching and stopping it

    monitor_user = Text(
        "",
        reloadable=True,
        shortdesc="Database user for monitoring",
        longdesc="""
            Database user that looks at the server. If it is not set, that is the user named in pgdba. In the
            replication modes this user must be allowed to see pg_stat_replication in full (role pg_monitor), and
            whatever changes something is done by the user named in pgdba all the same.
            """,
    )
    monitor_password = Text(
        "",
        secret=True,
        reloadable=True,
        shortdesc="Password of monitor_user",
        longdesc="""
            Password of monitor_user; without monitor_user it is an error. The value can be read by everyone who may
            read the cluster's configuration. Better leave it unset and give the user named in pgdba a file .pgpass,
            or let pg_hba.conf admit the local user (peer).
            """,
    )
    monitor_sql = Text(
        "select now();",
        multiline=True,
        reloadable=True,
        shortdesc="Query for monitoring",
        longdesc="""
            Query that a healthy server must answer without an error; what it answers does not matter. It runs as
            monitor_user in the database pgdb, in every monitor, so it must be quick and change nothing. With rep_mode
            sync and async it runs on the primary only. The default is not run: the agent's own queries tell as much.
            It has the settings that the role and the database have (search_path, say); the agent's own sessions bring
            theirs along.
            """,
    )
    stop_escalate = Integer(
        90,
        low=0,
        reloadable=True,
        shortdesc="Seconds of fast shutdown before an immediate one",
        longdesc="""
            How long, in seconds, a server gets for a fast shutdown before it is shut down in immediate mode, which
            makes it recover from its WAL when it starts again. 0: immediate mode at once. A value that does not fit
            into the timeout of the action is shortened to 10 seconds less than the timeout, because a stop that
            runs into its timeout means that the node is fenced.

            It holds for demote, and for stop if rep_mode is none or slave.
            """,
    )
    stop_escalate_in_slave = Integer(
        90,
        low=0,
        reloadable=True,
        shortdesc="The same for stop in the replication modes",
        longdesc="""
            As stop_escalate, in seconds, for the stop action if rep_mode is async or sync, and for the restart that
            restart_on_promote asks for.
            """,
    )
    check_wal_receiver = Boolean(
        False,
        reloadable=True,
        shortdesc="Show the state of the WAL receiver",
        longdesc="""
            If true, every monitor writes the state of the WAL receiver into the node attribute
            RESOURCE-receiver-status: normal, normal (master) on the primary, or ERROR on a standby that receives
            nothing. It is for people and for monitoring software; the cluster does not act on it.
            """,
    )

    # Replication

    rep_mode: Choice[RepMode] = Choice(
        "none",
        ("none", "async", "sync", "slave"),
        shortdesc="Replication mode",
        longdesc="""
            none: one server without replication, typically on storage that moves with it.

            async: one primary with asynchronous standbys; the resource must be a promotable clone. A failover can
            lose transactions that were not sent in time.

            sync: one primary with synchronous standbys; the resource must be a promotable clone. While a standby is
            connected, a commit waits for it, and only a node that holds every acknowledged commit is promoted. If
            no standby is left, the primary goes on alone.

            slave: a standby of a primary that this cluster does not manage; the resource must not be promotable.
            """,
    )
    node_list = Names(
        reloadable=True,
        shortdesc="Nodes that may run the server",
        longdesc="""
            Names of all nodes that may run this resource, separated by blanks. Needed if rep_mode is async or sync.
            They are the names that Pacemaker uses (crm_node -l); upper and lower case are the same. A standby
            on a node that is missing here is never made synchronous and never promoted.
            """,
    )
    master_ip = Text(
        "",
        reloadable=True,
        shortdesc="Address of the primary",
        longdesc="""
            IP address or host name at which standbys reach the primary. Needed if rep_mode is async, sync or slave.
            In the modes async and sync it is the virtual address that the cluster keeps on the node of the primary:
            make the address start after promote and stop with demote.
            """,
    )
    repuser = Text(
        "postgres",
        reloadable=True,
        shortdesc="Database user for replication",
        longdesc="""
            Database user that standbys connect to the primary as. It needs the attribute REPLICATION and an entry for
            the database "replication" in pg_hba.conf of every node. Its password, if any, belongs into the file
            .pgpass of the user named in pgdba on every node.
            """,
    )
    primary_conninfo_opt = Text(
        "",
        secret=True,
        reloadable=True,
        shortdesc="More of the standbys' connection to the primary",
        longdesc="""
            Text added at the end of primary_conninfo, in the form "key=value key=value". Example:
            "keepalives_idle=60 keepalives_interval=5 keepalives_count=5", which changes how soon a standby notices a
            lost primary (10, 5 and 3 if nothing is said), or "options='-c wal_sender_timeout=20s'", which changes how
            long commits wait for a synchronous standby that is a member of the cluster but does not answer (6 s).
            Host, port, user and application_name are set by the agent; the latter is the name of the node, and
            replication cannot be followed if it is changed here. A password in it goes into the file primary.pass in
            tmpdir, because the server logs its settings when they change; .pgpass is the better place. Other secrets
            (sslpassword, oauth_client_secret ...) go into the service file primary.service there, which the server
            finds by PGSERVICEFILE in its environment: a server that ran before has to be restarted for them, and
            "service" cannot be used beside them.
            """,
    )
    restore_command = Text(
        "",
        reloadable=True,
        shortdesc="restore_command of standbys",
        longdesc="""
            Command with which a standby fetches archived WAL, as in PostgreSQL's setting of this name (%f is the
            file's name, %p where it has to go). It lets a standby catch up after it was away for longer than the
            primary keeps WAL. Not needed if replication_slot_name is set or wal_keep_size is large enough.
            """,
    )
    archive_cleanup_command = Text(
        "",
        reloadable=True,
        shortdesc="archive_cleanup_command of standbys",
        longdesc="""
            Command that a standby runs at each restartpoint to remove archived WAL that it does not need any more, as
            in PostgreSQL's setting of this name. Do not use it on an archive that others need, too.
            """,
    )
    recovery_end_command = Text(
        "",
        reloadable=True,
        shortdesc="recovery_end_command of standbys",
        longdesc="""
            Command that a standby runs once when it is promoted, before it takes connections that write, as in
            PostgreSQL's setting of this name. The promotion waits for it.
            """,
    )
    restart_on_promote = Boolean(
        False,
        reloadable=True,
        shortdesc="Promote by a restart",
        longdesc="""
            If true, a standby is promoted by stopping it and starting it as a primary, so that it stays on its
            timeline; if false, it is promoted while it runs and begins a new timeline. Leave it false: a promotion
            takes longer this way, and a former primary cannot tell from the timeline that its history has diverged.
            """,
    )
    synchronous_node_count = Integer(
        1,
        low=1,
        reloadable=True,
        shortdesc="How many standbys are synchronous",
        longdesc="""
            Only for rep_mode sync: how many standbys hold a commit before it is acknowledged, at most the number of
            nodes in node_list less one. If fewer standbys stream, commits wait for those that do, unless strict is set.
            """,
    )
    synchronous_method: Choice[SynchronousMethod] = Choice(
        "first",
        ("first", "quorum"),
        reloadable=True,
        shortdesc="How commits wait for synchronous standbys",
        longdesc="""
            Only for rep_mode sync.

            first: as many standbys as synchronous_node_count says are chosen, and a commit waits for every one of them.
            Each of them holds everything and can be promoted, although the others are not heard.

            quorum: a commit waits for any that many of all standbys that stream, so a slow or lost one holds up nobody.
            Then nobody knows which of them holds a commit: if n of them stream and a commit waits for k, a promotion
            needs n - k + 1 of them to be heard, and promotes the newest.
            """,
    )
    strict = Boolean(
        False,
        reloadable=True,
        shortdesc="Never go on with fewer synchronous standbys",
        longdesc="""
            Only for rep_mode sync. If true, commits wait until as many standbys as synchronous_node_count says hold
            them, even if there are not so many: with one standby that is lost, nothing is committed until it is back.
            If false, the primary goes on with those that are left, and alone at last.
            """,
    )
    max_lag = Integer(
        0,
        low=0,
        high=10**15,
        reloadable=True,
        shortdesc="Bytes that a promoted standby may lack, in async mode",
        longdesc="""
            Only for rep_mode async: a standby that has flushed more than this many bytes of WAL less than the primary
            is not promoted. 0 is no limit. It is measured in the monitor of the primary, so it is not exact. A standby
            that was too far behind is promotable again when it is within half of it.
            """,
    )
    replication_slot_name = SlotPrefix(
        "",
        reloadable=True,
        shortdesc="Prefix of replication slots",
        longdesc="""
            If it is set, each standby uses a replication slot on the primary, so that the primary keeps the WAL the
            standby has yet to receive. The slot is called PREFIX_NODE, with the node's name in lower case and "_"
            for "." and "-". Allowed are a-z, 0-9 and "_"; the whole name has at most 63 bytes.

            A slot of a node that stays away makes the primary keep WAL until the disk is full: set the server's
            max_slot_wal_keep_size.
            """,
    )
    tmpdir = Path(
        "/var/lib/pgsql/tmp",
        shortdesc="Directory of the agent's own files",
        longdesc="""
            Absolute path of a directory for what the agent and the server share on each node: the settings it
            includes into the server's configuration. It is made (mode 0700, owner pgdba) if it does not exist; one
            that does must be pgdba's. It must survive a reboot, and belongs outside the data directory; of two
            resources on one node each needs its own, and the second one does not start otherwise. A file PGSQL.lock
            in it, which ocf:heartbeat:pgsql leaves there, is removed when a start has found that the data fits.
            """,
    )
    rejoin: Choice[RejoinPolicy] = Choice(
        "safe",
        ("safe", "rewind", "copy", "manual"),
        reloadable=True,
        shortdesc="How a copy that went too far comes back",
        longdesc="""
            What is done on a node whose data cannot follow the primary: it was the primary, crashed, and holds WAL that
            the new primary never had; or it was away for so long that the primary does not have the WAL any more that
            it needs. A copy that can follow always does so by itself.

            safe: nothing. The failure says how much WAL is too much, and `pgsql-ra rejoin` on that node repairs it.

            rewind: pg_rewind takes the node back to where the two parted. The server needs wal_log_hints=on or data
            checksums, and the user in rejoin_user the rights named there. What is taken back is written to the log:
            in rep_mode=sync nobody was told that it was committed.

            copy: as rewind, and where that is impossible a new base backup is taken from the primary. The old data
            directory is set aside (keep_old_data). The copy is made beside the data directory, which must not be a
            mount point and needs as much free space as the database has. A data directory that is empty or missing is
            filled in the same way, and one whose control file is damaged is replaced, if this node remembers that its
            data were a copy of the primary's. Without a primary the start fails, and the copy is made when there is
            one.

            manual: as ocf:heartbeat:pgsql. A primary makes a file PGSQL.lock in tmpdir, which demote removes when no
            standby is left running; while it is there, no server starts on that node.
            """,
    )
    rejoin_user = Text(
        "",
        reloadable=True,
        shortdesc="Database user for pg_rewind and pg_basebackup",
        longdesc="""
            Database user at the primary (master_ip) for rejoin=rewind and rejoin=copy; if it is not set, the one of
            repuser. It needs the attribute REPLICATION and for pg_rewind the right to connect to the database pgdb
            (an entry in pg_hba.conf on every node), and either to be a superuser or, in that database: GRANT EXECUTE
            ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text),
            pg_read_binary_file(text, bigint, bigint, boolean). With the role pg_checkpoint (PostgreSQL 15 and later)
            it does not have to wait for the first checkpoint after a promotion. Its password belongs into the file
            .pgpass of the user named in pgdba.
            """,
    )
    keep_old_data = Integer(
        1,
        low=0,
        high=100,
        reloadable=True,
        shortdesc="How many replaced data directories are kept",
        longdesc="""
            How many data directories that a new copy took the place of are kept on the node, beside the data directory
            under its name with ".old-" and the time added. The oldest one beyond that is deleted after the next copy
            was put in place; 0 deletes a replaced directory as soon as the new one is in place.
            """,
    )
    keep_lost_wal = Boolean(
        False,
        reloadable=True,
        shortdesc="Keep the WAL that pg_rewind throws away",
        longdesc="""
            If true, the WAL segments with what pg_rewind takes back are copied into a directory
            lost-wal-TIMELINE-LSN in tmpdir first, for whoever wants to know what was in them (pg_waldump). Nothing
            deletes it.
            """,
    )
    xlog_check_count = Integer(
        3,
        low=0,
        reloadable=True,
        shortdesc="Monitors an election waits for absent nodes",
        longdesc="""
            While there is no primary, the standbys compare where their WAL ends. If every node that may hold newer data
            has said so, the best one is promoted at once. Otherwise this many more monitors wait for those that say
            nothing: a higher number waits longer for nodes that start late, one monitor interval for each.
            """,
    )
    crm_attr_timeout = Integer(
        5,
        low=1,
        reloadable=True,
        shortdesc="Seconds for writing one permanent attribute",
        longdesc="""
            How long, in seconds, writing one permanent node attribute may take before it is given up and tried again.
            """,
    )
    external_standby_node_list = Names(
        reloadable=True,
        shortdesc="Synchronous standbys outside the cluster",
        longdesc="""
            Names of standbys that this cluster does not manage but that may be synchronous, separated by blanks: their
            application_name in pg_stat_replication. Only if rep_mode is sync, and no name of node_list. If it is set,
            all connected standbys of both lists are synchronous, and a commit waits for all of them.
            """,
    )

    # Accepted for the sake of old configurations

    psql = Text(
        "/usr/bin/psql",
        deprecated="The agent talks to the server through a driver and does not run psql. Remove the parameter.",
        reloadable=True,
        shortdesc="Program psql (not used any more)",
        longdesc="""
            Accepted because configurations of ocf:heartbeat:pgsql hold it. The agent does not run psql, and whether the
            program exists makes no difference.
            """,
    )

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._texts = {declared.name: environ.get(PREFIX + declared.name, "") for declared in type(self).declared()}

    def __repr__(self) -> str:
        return f"Parameters({', '.join(f'{name}={shown}' for name, shown in self.given().items())})"

    @classmethod
    def declared(cls) -> tuple[Parameter[Any], ...]:
        """All declarations, in the order in which they are documented."""
        return tuple(value for value in vars(cls).values() if isinstance(value, Parameter))

    @classmethod
    def declaration(cls, name: str) -> Parameter[Any]:
        """The declaration of one parameter. Raises KeyError if there is none of this name."""
        found = vars(cls)[name]
        if not isinstance(found, Parameter):
            raise KeyError(name)
        return found

    def text(self, name: str) -> str:
        """A parameter as the environment has it; empty if it is not set. Raises KeyError for an unknown name."""
        return self._texts[name]

    def given(self) -> dict[str, str]:
        """The parameters that are set, as they may be shown in a log: quoted, and secrets hidden."""
        return {each.name: each.shown(text) for each in self.declared() if (text := self._texts[each.name])}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong with these values on every node: first each value alone, then what contradicts another."""
        alone = [found for each in self.declared() if (found := each.problem(self._texts[each.name]))]
        refused = {problem.parameter for problem in alone}
        together = [problem for check in CROSS_CHECKS for problem in check(self) if problem.parameter not in refused]
        return (*alone, *together)

    def contradiction(self, name: str, sentence: str) -> Problem:
        """A problem of parameter `name` that lies in its relation to others."""
        text = self._texts[name]
        return Problem(name, self.declaration(name).shown(text) if text else "(not set)", sentence)


def check_monitor_password(parameters: Parameters) -> Iterator[Problem]:
    """A password is for somebody."""
    if parameters.text("monitor_password") and not parameters.text("monitor_user"):
        yield parameters.contradiction(
            "monitor_password",
            "parameter monitor_password is set, but monitor_user is not: set monitor_user to the database user that "
            "has this password, or remove monitor_password",
        )


def check_what_replication_needs(parameters: Parameters) -> Iterator[Problem]:
    """The modes with a primary elsewhere need its address, those with elections the list of nodes."""
    mode = parameters.rep_mode
    if mode in ("async", "sync") and not parameters.node_list:
        yield parameters.contradiction(
            "node_list",
            f"parameter node_list is not set, but rep_mode={mode} needs it: set it to the names of all nodes that may "
            "run this resource, separated by blanks",
        )
    if mode != "none" and not parameters.master_ip.strip():
        yield parameters.contradiction(
            "master_ip",
            f"parameter master_ip is not set, but rep_mode={mode} needs it: set it to the address at which standbys "
            "reach the primary",
        )


def check_external_standbys(parameters: Parameters) -> Iterator[Problem]:
    """Standbys outside the cluster exist in mode sync only, and are not nodes of it."""
    name = "external_standby_node_list"
    external = parameters.external_standby_node_list
    refused = Parameters.rep_mode.problem(parameters.text("rep_mode"))
    if external and parameters.rep_mode != "sync" and not refused:
        yield parameters.contradiction(
            name,
            f"parameter {name} is set, but rep_mode is {parameters.rep_mode}: set rep_mode to sync, or remove {name}",
        )
    both = [each for each in external if each in parameters.node_list]
    if both:
        yield parameters.contradiction(
            name,
            f"parameter {name} holds {quoted(' '.join(both))}, which node_list holds, too: a node of the "
            "cluster belongs into node_list only",
        )


def check_synchronous_standbys(parameters: Parameters) -> Iterator[Problem]:
    """As many synchronous standbys as there can be, and not two ways to choose them."""
    most = len(parameters.node_list) - 1
    name = "synchronous_node_count"
    if (
        parameters.text(name)
        and parameters.rep_mode == "sync"
        and most >= 1
        and parameters.synchronous_node_count > most
    ):
        yield parameters.contradiction(
            name,
            f"parameter {name} is {parameters.synchronous_node_count}, but node_list has {most} nodes beside the "
            f"primary: set it to {most} or less, or complete node_list",
        )
    if parameters.synchronous_method == "quorum" and parameters.external_standby_node_list:
        yield parameters.contradiction(
            "synchronous_method",
            "parameter synchronous_method is quorum, but external_standby_node_list is set, whose standbys a commit "
            "always waits for: remove one of the two",
        )


def check_slot_names(parameters: Parameters) -> Iterator[Problem]:
    """Every node gets a slot of its own, and its name is one that PostgreSQL takes."""
    prefix = parameters.replication_slot_name
    if not prefix:
        return
    owners: dict[str, str] = {}
    for node in parameters.node_list:
        slot = slot_name(prefix, node)
        trouble = ""
        if not SLOT_CHARACTERS.issuperset(slot):
            trouble = "may hold a-z, 0-9 and _ only: rename the node, or do without replication_slot_name"
        elif len(slot) > SLOT_NAME_MAX_BYTES:
            trouble = f"has {len(slot)} bytes, but {SLOT_NAME_MAX_BYTES} are allowed: choose a shorter prefix"
        elif slot in owners:
            trouble = f"node {quoted(owners[slot])} would have, too: rename a node, or do without replication_slot_name"
        owners.setdefault(slot, node)
        if trouble:
            yield parameters.contradiction(
                "replication_slot_name",
                f"parameter replication_slot_name is {quoted(prefix)}: node {quoted(node)} would have the "
                f"slot {quoted(slot)}, which {trouble}",
            )


def slot_name(prefix: str, node: str) -> str:
    """The name of a node's replication slot: as in the shell agent, so that existing slots keep their names."""
    return f"{prefix}_{node.lower().replace('.', '_').replace('-', '_')}"


CROSS_CHECKS: Final[tuple[Callable[[Parameters], Iterator[Problem]], ...]] = (
    check_monitor_password,
    check_what_replication_needs,
    check_external_standbys,
    check_synchronous_standbys,
    check_slot_names,
)
