//! What survives a restart: rooms and codes, the administrator, sessions, tokens, LiveKit keys.
//!
//! One file per kind of thing; no SQL type leaves this module, so that another database can replace this
//! one. It knows nothing of HTTP.

mod access;
mod backup;
mod keys;
mod reserve;
mod rooms;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use backup::{Backups, Cut, Opened};
use reserve::Reserve;

pub use access::{Access, AccountId, BearerToken, Claimed};
pub use backup::Restored;
pub use keys::{ApiKey, ApiKeys};
pub use rooms::{NewRoom, Page, Passing, Room, Rooms};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Readers and writers at once. SQLite writes one at a time; more only helps reads.
const CONNECTIONS: u32 = 4;

/// How long a write waits for the one before it. Writes take milliseconds; a full disk queue takes longer.
const BUSY: Duration = Duration::from_secs(5);

/// Seconds since 1970-01-01 UTC.
pub type UnixSeconds = i64;

/// The wall clock, for what is kept or shown; never for measuring time.
pub(crate) fn now() -> UnixSeconds {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

/// The store did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A newer Palabre has written this database; reading it with this one could lose what it does not know.
    #[error(
        "the database {path} was written by a newer version of Palabre (schema {found}, this program knows \
         up to {known}); start the newer program, or restore the backup made before the update",
        path = .path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Schema version found in it.
        found: i64,
        /// Newest schema version this program knows.
        known: i64,
    },
    /// The file cannot be made or opened.
    #[error("cannot open the database {path}: {cause}; check that the folder exists and is writable", path = .path.display())]
    File {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The database cannot be saved before this version changes it, or a saved one not put back.
    #[error(
        "the database {path} cannot be saved or put back: {cause}; make room on the disk, or check that the \
         folder is writable",
        path = .path.display()
    )]
    Backup {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no Palabre database, or is damaged.
    #[error("cannot use the database {path}: {cause}; restore a backup, or move the file away to start anew", path = .path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What the database library said.
        cause: String,
    },
}

/// The store could not do what it was asked; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer: {cause}")]
pub struct StoreError {
    /// What the database library said, for the operator's log.
    pub cause: String,
    /// What is at fault.
    pub fault: Fault,
}

/// What keeps the store from doing what it was asked. While the disk is full or takes no writes,
/// what is stored can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk has no space left.
    Full,
    /// The disk takes no writes: the system found damage on it and protects the rest.
    ReadOnly,
    /// Anything else.
    Other,
}

impl StoreError {
    /// Of no known fault.
    pub(crate) fn other(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            fault: Fault::Other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self {
            cause: error.to_string(),
            fault: fault(&error),
        }
    }
}

/// What is at fault when the database library says this.
fn fault(error: &sqlx::Error) -> Fault {
    // Result codes of SQLite; the low byte of an extended one is its primary one.
    const FULL: u32 = 13;
    const READ_ONLY: u32 = 8;
    const IO_WRITE: u32 = 778;
    const IO_FSYNC: u32 = 1034;
    const IO_SHM_SIZE: u32 = 4874;
    let code = error.as_database_error().and_then(|e| e.code());
    let code: Option<u32> = code.and_then(|code| code.parse().ok());
    match code {
        Some(FULL | IO_SHM_SIZE) => Fault::Full,
        Some(IO_WRITE | IO_FSYNC) => Fault::ReadOnly,
        Some(code) if code & 0xff == READ_ONLY => Fault::ReadOnly,
        _ => Fault::Other,
    }
}

/// The open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// Rooms, their codes and links.
    pub rooms: Rooms,
    /// The administrator, the claim code, sessions and tokens.
    pub access: Access,
    /// LiveKit API keys.
    pub keys: ApiKeys,
    pool: SqlitePool,
    backups: Backups,
    reserve: Reserve,
}

impl Store {
    /// Opens the database in `file` as this program's version; see [`Self::open_as`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(file: &Path) -> Result<Self, OpenError> {
        Self::open_as(file, env!("CARGO_PKG_VERSION")).await
    }

    /// Opens the database in `file`, makes it when absent (readable by its owner only), and brings it to
    /// this program's schema. Before another `version` than the last one changes it, it is copied
    /// (`backup`); one that is newer than this program is put aside for the copy made before.
    ///
    /// Every write is on the disk before it is acknowledged: WAL with `synchronous = FULL` syncs each
    /// commit, which `NORMAL` would not survive a power cut with. A write costs one disk sync; the
    /// administration plane makes a few a minute. On a full disk sign-ins and deletions are done all the
    /// same, with space that is kept for them (`reserve`).
    ///
    /// # Errors
    /// [`OpenError`], with the database unchanged when it is newer than this program and there is no copy.
    pub async fn open_as(file: &Path, version: &str) -> Result<Self, OpenError> {
        Self::open_with(file, version, &MIGRATIONS, &mut || Ok(())).await
    }

    async fn open_with(
        file: &Path,
        version: &str,
        migrations: &Migrator,
        cut: Cut<'_>,
    ) -> Result<Self, OpenError> {
        let backups = Backups::of(file);
        let reserve = Reserve::of(file);
        let known = migrations.iter().map(|m| m.version).max().unwrap_or(0);
        let (mut pool, mut found) = connect(file, &reserve).await?;
        if found > known {
            // Whoever was killed left a journal: before it gives its space back, the database it goes into grows.
            give_up(&reserve);
            pool.close().await;
            reserve.make();
            let restored = backups.restore(version, found, known, &|| give_up(&reserve), cut);
            let restored = restored.map_err(|cause| OpenError::Backup {
                path: file.to_owned(),
                cause,
            })?;
            if !restored {
                return Err(OpenError::Newer {
                    path: file.to_owned(),
                    found,
                    known,
                });
            }
            (pool, found) = connect(file, &reserve).await?;
        }
        let schemas = (found, known);
        if let Err(error) = change(&pool, &backups, version, schemas, migrations, cut).await {
            pool.close().await;
            return Err(match error {
                ChangeError::Backup(cause) => OpenError::Backup {
                    path: file.to_owned(),
                    cause,
                },
                ChangeError::Database(error) => OpenError::Database {
                    path: file.to_owned(),
                    cause: error.to_string(),
                },
            });
        }
        if found < known {
            // A connection opened before a table changed would read its rows as they were.
            pool.close().await;
            (pool, _) = connect(file, &reserve).await?;
        }
        Ok(Self {
            rooms: Rooms::new(pool.clone(), reserve.clone()),
            access: Access::new(pool.clone(), reserve.clone()),
            keys: ApiKeys::new(pool.clone(), reserve.clone()),
            pool,
            backups,
            reserve,
        })
    }

    /// Keeps again for the administrator what a full disk took. For who has deleted files on it.
    pub async fn refill(&self) {
        self.reserve.refill().await;
    }

    /// What was put back for this version, at this start or an earlier one, until [`Self::told`].
    pub fn restored(&self) -> Option<Restored> {
        self.backups.opened().restored
    }

    /// Somebody knows now what was put back.
    pub fn told(&self) {
        let mut opened = self.backups.opened();
        opened.restored = None;
        if let Err(error) = self.backups.remember(&opened) {
            tracing::warn!(%error, "what was put back will be told again");
        }
    }

    /// Whether the database answers now.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM accounts")
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }

    /// Finishes what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

enum ChangeError {
    Backup(std::io::Error),
    Database(sqlx::migrate::MigrateError),
}

/// Brings the database to this version's schema. What another version left is copied first; a copy
/// that cannot be made keeps the schema from changing, and nothing else.
async fn change(
    pool: &SqlitePool,
    backups: &Backups,
    version: &str,
    (found, known): (i64, i64),
    migrations: &Migrator,
    cut: Cut<'_>,
) -> Result<(), ChangeError> {
    let last = backups.opened();
    let is_same = last.version == version;
    let mut opened = Opened {
        version: version.to_owned(),
        is_changing: found < known,
        restored: last.restored.filter(|restored| restored.is_for(version)),
    };
    // What this version has begun to change is no copy of what was before it.
    let is_begun = is_same && last.is_changing;
    let is_due = found > 0 && !is_begun && !(is_same && found == known);
    let copied = match is_due {
        true => backups.make(pool, version, found, cut).await,
        false => Ok(()),
    };
    let kept = copied.and_then(|()| backups.remember(&opened));
    match kept {
        Err(cause) if found < known => return Err(ChangeError::Backup(cause)),
        Err(error) => tracing::warn!(%error, "the database was not saved before this version"),
        Ok(()) => {}
    }
    if found == known {
        return Ok(());
    }
    cut().map_err(ChangeError::Backup)?;
    migrations.run(pool).await.map_err(ChangeError::Database)?;
    cut().map_err(ChangeError::Backup)?;
    opened.is_changing = false;
    backups.remember(&opened).map_err(ChangeError::Backup)
}

/// Gives up what is kept for the administrator, for the way back on a full disk; whoever connects next keeps it again.
fn give_up(reserve: &Reserve) {
    if let Err(error) = reserve.give_up() {
        tracing::warn!(%error, "the space kept for a full disk is not given up");
    }
}

/// Opens the file, and looks which schema it has. On a full disk with what is kept for the administrator: without the
/// index of its journal nothing of it can even be read.
async fn connect(file: &Path, reserve: &Reserve) -> Result<(SqlitePool, i64), OpenError> {
    create_private(file).map_err(|cause| OpenError::File {
        path: file.to_owned(),
        cause,
    })?;
    let mut opened = open_file(file).await;
    if let Err(error) = &opened
        && fault(error) == Fault::Full
        && reserve.give_up().is_ok()
    {
        opened = open_file(file).await;
    }
    reserve.make();
    opened.map_err(|error| OpenError::Database {
        path: file.to_owned(),
        cause: error.to_string(),
    })
}

async fn open_file(file: &Path) -> Result<(SqlitePool, i64), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    // One stays open as long as the program runs: with the last one SQLite would delete the journal and its index, and on a
    // disk that is full by then the next could not even read.
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    let found = schema(&pool).await?;
    Ok((pool, found))
}

/// Newest migration applied, 0 for a new file.
async fn schema(pool: &SqlitePool) -> Result<i64, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(pool)
    .await?;
    if tables == 0 {
        return Ok(0);
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(pool)
        .await?;
    Ok(newest.unwrap_or(0))
}

/// Makes the file when absent, for its owner only: it holds keys. SQLite gives its journal the same mode.
fn create_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}

/// A database of its own, gone with the folder.
#[cfg(test)]
async fn empty() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("palabre.db"))
        .await
        .unwrap();
    (folder, store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("palabre.db");
        let store = Store::open(&file).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', 1, x'00', 0)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        store.close().await;
        let refused = Store::open(&file).await.unwrap_err();
        assert!(
            matches!(refused, OpenError::Newer { found: 9999, .. }),
            "{refused}"
        );
        assert!(
            refused.to_string().contains("newer version of Palabre"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("palabre.db");
        let text = "minutes of the last meeting ".repeat(100);
        std::fs::write(&file, &text).unwrap();
        let refused = Store::open(&file).await.unwrap_err();
        assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    /// As on a full disk, where only the commit meets the system.
    #[tokio::test]
    async fn a_write_that_fails_when_it_is_committed_is_not_acknowledged() {
        let (_folder, store) = empty().await;
        let new = NewRoom {
            name: "kept".to_owned(),
            max_participants: None,
        };
        let room = store.rooms.create(&new).await.unwrap();
        // Nothing that a statement sees itself: the reference is checked by the commit.
        for statement in [
            "CREATE TABLE nowhere (id INTEGER PRIMARY KEY)",
            "CREATE TABLE unmet (id INTEGER REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TRIGGER made AFTER INSERT ON rooms BEGIN INSERT INTO unmet VALUES (1); END",
            "CREATE TRIGGER changed AFTER UPDATE ON rooms BEGIN INSERT INTO unmet VALUES (1); END",
        ] {
            sqlx::query(statement).execute(&store.pool).await.unwrap();
        }
        store.rooms.create(&new).await.unwrap_err();
        store.rooms.change_code(&room.id).await.unwrap_err();
        let page = store.rooms.list(None, 10).await.unwrap();
        assert_eq!(page.total, 1);
        assert_eq!(page.rooms[0].code, room.code);
    }

    #[tokio::test]
    async fn a_full_or_protected_disk_is_named_and_what_is_there_can_be_read() {
        let (_folder, store) = empty().await;
        let new = NewRoom {
            name: "kept".to_owned(),
            max_participants: None,
        };
        let room = store.rooms.create(&new).await.unwrap();
        let everywhere = |pragma: &'static str| {
            let pool = store.pool.clone();
            async move {
                let mut connections = Vec::new();
                for _ in 0..CONNECTIONS {
                    connections.push(pool.acquire().await.unwrap());
                }
                for connection in &mut connections {
                    sqlx::query(pragma)
                        .execute(&mut **connection)
                        .await
                        .unwrap();
                }
            }
        };
        // SQLite then answers as it does when the system has no space.
        everywhere("PRAGMA max_page_count = 1").await;
        let full = loop {
            if let Err(error) = store.rooms.create(&new).await {
                break error;
            }
        };
        assert_eq!(full.fault, Fault::Full, "{full}");
        assert!(store.rooms.by_id(&room.id).await.unwrap().is_some());
        everywhere("PRAGMA query_only = ON").await;
        let protected = store.rooms.delete(&room.id).await.unwrap_err();
        assert_eq!(protected.fault, Fault::ReadOnly, "{protected}");
        assert!(store.rooms.by_id(&room.id).await.unwrap().is_some());
        store.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_absent_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("absent/palabre.db");
        let refused = Store::open(&file).await.unwrap_err().to_string();
        assert!(refused.contains("absent/palabre.db"), "{refused}");
    }

    #[tokio::test]
    async fn only_the_owner_can_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("palabre.db");
        let store = Store::open(&file).await.unwrap();
        store.keys.pages().await.unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
        }
    }
}
