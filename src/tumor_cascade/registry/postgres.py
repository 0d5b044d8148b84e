"""The system's PostgreSQL: finding its programs and making a database cluster, as root under an account of its own."""

import pwd
import shutil
import subprocess
from pathlib import Path

from tumor_cascade.registry.daemons import ServiceError, write_secret

POSTGRES_ACCOUNT = "postgres"  # made by Debian's package; the server refuses to run as root
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
DATABASE_ACCOUNT = "mlflow"


def find_postgres(data: Path) -> Path:
    """Return the folder of PostgreSQL's programs: of the version that made the data, else the newest.

    Raises:
        ServiceError: There is none.
    """
    made_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip() if (data / "PG_VERSION").exists() else None
    found = sorted(DEBIAN_POSTGRES.glob(f"{made_by or '*'}/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    candidates = [*([Path(on_path)] if on_path else []), *found]
    if not candidates:
        version = f" {made_by}, which made {data}" if made_by else ""
        raise ServiceError(
            f"PostgreSQL{version} is not installed: no postgres on the PATH or under {DEBIAN_POSTGRES}. "
            f"On Debian: apt-get install postgresql{f'-{made_by}' if made_by else ''}"
        )
    return candidates[-1].resolve().parent


def make_database(programs: Path, data: Path, account: str | None, password: str) -> None:
    """Create a database cluster in a folder that appears only when it is complete.

    Raises:
        ServiceError: The account cannot reach the folder, or initdb fails.
    """
    new, password_path = data.with_name(f".{data.name}.new"), data.with_name(".postgres-password")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    write_secret(password_path, password)
    user = {}
    if account is not None:
        check_account(account, data.parent)
        for path in (new, password_path):
            shutil.chown(path, account, account)
        user = {"user": account, "group": account, "extra_groups": []}
    options = ["--auth=scram-sha-256", f"--username={DATABASE_ACCOUNT}", f"--pwfile={password_path}"]
    command = [
        str(programs / "initdb"),
        f"--pgdata={new}",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
        *options,
    ]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **user)  # type: ignore[call-overload]
    password_path.unlink()
    if done.returncode:
        raise ServiceError(f"initdb failed in {new}:\n{done.stderr.strip()}")
    new.replace(data)


def check_account(account: str, folder: Path) -> None:
    """Refuse a folder that an account cannot reach.

    Raises:
        ServiceError: The account does not exist, or a parent folder is closed to it.
    """
    try:
        pwd.getpwnam(account)
    except KeyError as error:
        raise ServiceError(
            f"PostgreSQL refuses to run as root and the account {account} does not exist; "
            f"make it: useradd --system {account}"
        ) from error
    closed = [str(path) for path in (folder, *folder.parents) if not path.stat().st_mode & 0o001]
    if closed:
        raise ServiceError(
            f"PostgreSQL runs as {account}, who cannot enter {', '.join(closed)}; name another folder with --data, "
            "or open it: chmod o+x"
        )
