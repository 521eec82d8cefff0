"""An application's database and role, through Pgpool: looked at read-only, provisioned as administrator.

Rules it guards: nobody but the application's role may connect to its database, and the role may not make databases,
roles or extensions; the database belongs to the administrator, so the application cannot drop it or let others in. A
password never crosses the wire for writing: the server is given the SCRAM verifier, made here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from playbook.trouble import Trouble, Unknown
from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach, ca_file
from playbook.wiring.secrets import SYSTEM, VERIFIED

ADMIN = "postgres"
CONNECT_S = 20
POWERS = ("rolsuper", "rolcreatedb", "rolcreaterole", "rolreplication", "rolbypassrls")

ROLE_SQL = f"select rolcanlogin, {', '.join(POWERS)} from pg_roles where rolname = %s"  # noqa: S608 - our own names
MEMBER_SQL = """select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid
                join pg_roles r on r.oid = m.member where r.rolname = %s"""
DATABASE_SQL = """select pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT')
                  from pg_database where datname = %s"""
OPEN_SQL = """select datname from pg_database where datallowconn and datname = 'template1'
              and has_database_privilege('public', oid, 'CONNECT')"""
GRANTS_SQL = """select has_database_privilege(%(app)s::name, %(app)s::text, 'CONNECT'),
                       has_database_privilege(%(app)s::name, %(app)s::text, 'CREATE')"""
OWN_SQL = "select current_user = %s, has_schema_privilege('public', 'CREATE')"


@contextlib.contextmanager
def connected(
    reach: Reach, at: Endpoints, database: str, user: str, password: str, *, writing: bool = False
) -> Iterator[Any]:
    """A connection through Pgpool; every transaction of one that is not writing is READ ONLY."""
    import psycopg

    host, port = at.need("POSTGRES_HOST"), at.number("POSTGRES_PORT")
    with ca_file(at.trusted("postgres")) as ca, reach.address(host, port, at) as (name, local):
        tls: dict[str, Any] = {"sslmode": at.need("POSTGRES_SSLMODE")}
        if tls["sslmode"] == VERIFIED:
            tls["sslrootcert"] = ca or SYSTEM
        connection = psycopg.connect(
            host="localhost" if name == "127.0.0.1" else name, port=local, dbname=database, user=user,
            password=password, connect_timeout=CONNECT_S, application_name="sfmctl", autocommit=writing, **tls,
        )  # fmt: skip
        with connection:
            if not writing:
                connection.read_only = True
            yield connection


@contextlib.contextmanager
def administering(reach: Reach, at: Endpoints, database: str = ADMIN, *, writing: bool = False) -> Iterator[Any]:
    """The administrator's connection; its errors are trouble with a code."""
    import psycopg

    password = reach.admin("postgres", "postgres-password", "SFM_POSTGRES_ADMIN_PASSWORD", "SFM-DB-002")
    try:
        with connected(reach, at, database, ADMIN, password, writing=writing) as connection:
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise Trouble("SFM-DB-002", "the administrator's role may not do this", why=first_line(error)) from error
    except psycopg.OperationalError as error:
        refused = "authentication failed" in str(error)
        what = "Postgres refuses the administrator's password" if refused else "Postgres cannot be reached"
        raise Unknown("SFM-DB-002" if refused else "SFM-DB-001", what, why=first_line(error)) from error
    except psycopg.Error as error:
        raise Trouble("SFM-DB-003", "Postgres did not accept a statement of ours", why=first_line(error)) from error


def first_line(error: BaseException) -> str:
    """What the server said, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: what is wanting, what still lets the application in, what data it has."""

    wanting: list[str]
    access: list[str]
    data: list[str]


def look(reach: Reach, at: Endpoints, password: str) -> Look:
    """The application's role, database and grants, as the administrator sees them, and its own login."""
    app = reach.app
    with administering(reach, at) as connection:
        role, wrong = role_wanting(connection, app)
        found = connection.execute(DATABASE_SQL, (app.name,)).fetchone()
        wrong += [f"everybody may connect to {name}" for (name,) in connection.execute(OPEN_SQL).fetchall()]
        wrong += database_wanting(app, found)
        if role and found:
            connect, create = connection.execute(GRANTS_SQL, {"app": app.name}).fetchone()
            wrong += [] if connect else [f"role {app.name} may not connect to its database"]
            wrong += [f"role {app.name} may make schemas and extensions"] if create else []
    if not wrong:
        wrong = login_wanting(reach, at, password)
    return Look(
        wrong,
        [f"login of role {app.name}"] if role and role[0] else [],
        ([f"database {app.name}"] if found else []) + ([f"role {app.name}"] if role else []),
    )


def database_wanting(app: Application, found: tuple[str, bool] | None) -> list[str]:
    """What is wrong with the database itself."""
    if found is None:
        return [f"database {app.name} is absent"]
    wrong = [] if found[0] == ADMIN else [f"database {app.name} belongs to {found[0]}"]
    return wrong + ([f"everybody may connect to {app.name}"] if found[1] else [])


def role_wanting(connection: Any, app: Application) -> tuple[Any, list[str]]:
    """The role's row (None: it is absent), and what is wrong with it."""
    found = connection.execute(ROLE_SQL, (app.name,)).fetchone()
    if found is None:
        return None, [f"role {app.name} is absent"]
    wrong = [] if found[0] else [f"role {app.name} may not log in"]
    wrong += [f"role {app.name} has {power}" for power, has in zip(POWERS, found[1:], strict=True) if has]
    members = [name for (name,) in connection.execute(MEMBER_SQL, (app.name,)).fetchall()]
    return found, wrong + ([f"role {app.name} is a member of {', '.join(members)}"] if members else [])


def login_wanting(reach: Reach, at: Endpoints, password: str) -> list[str]:
    """What the application's own login finds wrong."""
    import psycopg

    name = reach.app.name
    refused = f"role {name} is refused with the password that Vault has"
    if not password:
        return [refused]
    try:
        with connected(reach, at, name, name, password) as connection:
            same, tables = connection.execute(OWN_SQL, (name,)).fetchone()
    except psycopg.OperationalError as error:
        if "authentication failed" in str(error) or "not permitted to log in" in str(error):
            return [refused]
        raise Unknown("SFM-DB-001", "Postgres cannot be reached as the application", why=first_line(error)) from error
    return ([] if same else [refused]) + ([] if tables else [f"role {name} may not make tables in its database"])


def provision(reach: Reach, at: Endpoints, password: str) -> None:
    """Make or mend the role, the database and the grants; idempotent."""
    from psycopg import sql

    app = reach.app
    name = sql.Identifier(app.name)
    with administering(reach, at, writing=True) as connection:
        verifier = connection.pgconn.encrypt_password(password.encode(), app.name.encode(), b"scram-sha-256").decode()
        exists = connection.execute("select 1 from pg_roles where rolname = %s", (app.name,)).fetchone()
        verb = sql.SQL("alter role" if exists else "create role")
        powers = sql.SQL("login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password")
        connection.execute(sql.SQL(" ").join((verb, name, powers, sql.Literal(verifier))))
        for (group,) in connection.execute(MEMBER_SQL, (app.name,)).fetchall():
            connection.execute(sql.SQL("revoke {} from {}").format(sql.Identifier(group), name))
        if not connection.execute(DATABASE_SQL, (app.name,)).fetchone():
            connection.execute(sql.SQL("create database {} owner {}").format(name, sql.Identifier(ADMIN)))
        for statement in (
            "alter database {} owner to postgres",
            "revoke all on database {} from public",
            "revoke all on database {} from {}",
            "grant connect, temporary on database {} to {}",
        ):
            connection.execute(sql.SQL(statement).format(name, name))
        connection.execute("revoke connect on database template1 from public")
    with administering(reach, at, app.name, writing=True) as connection:
        connection.execute(sql.SQL("grant usage, create on schema public to {}").format(name))


def lock_out(reach: Reach, at: Endpoints) -> None:
    """Take the login away and end its sessions; role and data stay."""
    from psycopg import sql

    name = reach.app.name
    with administering(reach, at, writing=True) as connection:
        if connection.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(name)))
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", (name,))


def erase(reach: Reach, at: Endpoints) -> None:
    """Drop the database with everything in it, then the role."""
    from psycopg import sql

    name = sql.Identifier(reach.app.name)
    with administering(reach, at, writing=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        connection.execute(sql.SQL("drop role if exists {}").format(name))
