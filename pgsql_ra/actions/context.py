# SPDX-License-Identifier: GPL-2.0-or-later
"""What every action works with: its parameters, its deadline, and the parts of the house it may need, made when asked
for.

Making a part costs its imports; `stop`, `meta-data` and most notifications ask for few of them.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pgsql_ra.ocf import Deadline, Log, resource_name
from pgsql_ra.parameters import Parameters

if TYPE_CHECKING:
    from pgsql_ra.pacemaker.attributes import Attributes
    from pgsql_ra.pacemaker.notification import Notification
    from pgsql_ra.postgres.configuration import ConfigurationFiles
    from pgsql_ra.postgres.job import JobFile
    from pgsql_ra.postgres.programs import Programs
    from pgsql_ra.postgres.server import Server
    from pgsql_ra.postgres.user import DatabaseUser
    from pgsql_ra.postgres.user_files import UserFiles
    from pgsql_ra.replication.policy import Policy
    from pgsql_ra.state import StateDirectory


class Context:
    """One run of the agent."""

    def __init__(self, action: str, environ: Mapping[str, str]) -> None:
        self.action = action
        self.environ = environ
        self.log = Log(environ)
        self.deadline = Deadline.from_environ(environ)
        self.parameters = Parameters(environ)
        self.resource = resource_name(environ)

    @property
    def pgdata(self) -> str:
        """The data directory."""
        return self.parameters.pgdata

    @property
    def replicates(self) -> bool:
        """Whether this resource is a promotable clone of a primary and its standbys (rep_mode sync or async)."""
        return self.parameters.rep_mode in ("sync", "async")

    @property
    def has_roles(self) -> bool:
        """Whether a primary is to be called promoted. A refused rep_mode says nothing about what runs, but nobody gives
        one to a single instance either.
        """
        return self.replicates or any(problem.parameter == "rep_mode" for problem in self.parameters.problems)

    @cached_property
    def node(self) -> str:
        """This node's name in the cluster, as Pacemaker spells it."""
        if told := self.environ.get("OCF_RESKEY_CRM_meta_on_node"):
            return told
        from pgsql_ra.pacemaker.attributes import local_node_name

        return local_node_name(self.deadline)

    @cached_property
    def attributes(self) -> "Attributes":
        """The cluster's attributes for this resource."""
        return self.attributes_within(self.deadline)

    def attributes_within(self, deadline: Deadline) -> "Attributes":
        """The same, to be written before a deadline of their own."""
        from pgsql_ra.pacemaker.attributes import Attributes

        return Attributes(self.resource, deadline, self.parameters.crm_attr_timeout)

    @cached_property
    def notification(self) -> "Notification":
        """What Pacemaker said of the transition under way."""
        from pgsql_ra.pacemaker.notification import Notification

        return Notification.from_environ(self.environ)

    @cached_property
    def user(self) -> "DatabaseUser":
        """The operating system user of the database. NotInstalled if there is none."""
        from pgsql_ra.postgres.user import DatabaseUser

        return DatabaseUser(self.parameters.pgdba)

    @cached_property
    def programs(self) -> "Programs":
        """PostgreSQL's programs. NotInstalled if they are missing."""
        from pgsql_ra.postgres.programs import Programs

        return Programs(self.parameters.pgctl, self.parameters.pglibs, self.user)

    @cached_property
    def server(self) -> "Server":
        """The server, to be started, promoted or reloaded."""
        from pgsql_ra.postgres.server import Server, ServerOptions

        given = self.parameters
        options = ServerOptions(
            pgdata=given.pgdata,
            config=given.config,
            logfile=given.logfile,
            port=given.pgport,
            host=given.pghost,
            start_opt=given.start_opt,
            ctl_opt=given.ctl_opt,
            service_file=os.path.join(given.tmpdir, "primary.service") if self.parameters.rep_mode != "none" else "",
        )
        return Server(options, self.programs, self.log)

    @cached_property
    def state(self) -> "StateDirectory":
        """What root believes of this resource on this node: a directory that only root can write."""
        from pgsql_ra.state import StateDirectory

        return StateDirectory(self.resource, self.environ)

    @cached_property
    def believed(self) -> "StateDirectory":
        """The same, with what earlier versions kept in tmpdir. NotPermitted if that cannot be read."""
        from pgsql_ra.postgres.earlier_files import take_over

        take_over(self.state, self.parameters.tmpdir, self.user_files)
        return self.state

    @cached_property
    def job(self) -> "JobFile":
        """The job that repairs the data directory. `stop` needs it, whatever else is broken."""
        from pgsql_ra.postgres.broken_off import BrokenOffMark
        from pgsql_ra.postgres.job import JobFile

        return JobFile(self.state, BrokenOffMark(self.pgdata, lambda: self.user_files), lambda: self.believed)

    @cached_property
    def user_files(self) -> "UserFiles":
        """What belongs to the database user, touched as that user."""
        from pgsql_ra.postgres.user_files import UserFiles

        return UserFiles(self.user)

    @cached_property
    def files(self) -> "ConfigurationFiles":
        """The agent's configuration files."""
        from pgsql_ra.postgres.configuration import ConfigurationFiles

        return ConfigurationFiles(self.parameters.config, self.parameters.tmpdir, self.user)

    @cached_property
    def policy(self) -> "Policy":
        """The parameters that decisions depend on."""
        from pgsql_ra.parameters import slot_name
        from pgsql_ra.replication.policy import Degrading, Method, Mode, Policy, ReceiverDisplay

        given = self.parameters
        prefix, external = given.replication_slot_name, given.external_standby_node_list
        return Policy(
            node=self.node.lower(),
            mode=Mode(given.rep_mode),
            members=given.node_list,
            election_rounds=given.xlog_check_count,
            # With standbys outside of the cluster all members are synchronous too, as in the shell agent.
            synchronous_count=len(given.node_list) if external else given.synchronous_node_count,
            method=Method(given.synchronous_method),
            degrading=Degrading.NEVER if given.strict else Degrading.ALLOWED,
            max_lag=given.max_lag,
            external_standbys=external,
            slots=tuple((node, slot_name(prefix, node)) for node in given.node_list) if prefix else (),
            slot_prefix=prefix,
            receiver=ReceiverDisplay.SHOWN if given.check_wal_receiver else ReceiverDisplay.HIDDEN,
        )
