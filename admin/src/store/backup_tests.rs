//! An update that changes the schema, and the way back from it, cut at every step and by kill -9.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palabre_tests::disk::Disk;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::super::{MIGRATIONS, NewRoom, OpenError, Store};
use super::*;

/// This program's schema, and a table and a column that are not invented yet.
fn future() -> Migrator {
    let mut migrations: Vec<Migration> = MIGRATIONS.iter().cloned().collect();
    for (version, sql) in [
        (9998, "CREATE TABLE future (one INTEGER) STRICT"),
        (9999, "ALTER TABLE rooms ADD COLUMN future INTEGER"),
    ] {
        let sql = sql.into_sql_str();
        let kind = MigrationType::Simple;
        migrations.push(Migration::new(version, "future".into(), kind, sql, false));
    }
    Migrator::with_migrations(migrations)
}

async fn open(file: &Path, version: u32, cut: Cut<'_>) -> Result<Store, OpenError> {
    match version {
        1 => Store::open_with(file, "1", &MIGRATIONS, cut).await,
        _ => Store::open_with(file, &version.to_string(), &future(), cut).await,
    }
}

async fn opened(file: &Path, version: u32) -> Store {
    open(file, version, &mut || Ok(())).await.unwrap()
}

async fn add(store: &Store, name: &str) {
    let new = NewRoom {
        name: name.to_owned(),
        max_participants: None,
    };
    store.rooms.create(&new).await.unwrap();
}

/// The names of the rooms, oldest first.
async fn rooms(store: &Store) -> Vec<String> {
    let names = sqlx::query_scalar("SELECT name FROM rooms ORDER BY number");
    names.fetch_all(&store.pool).await.unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("palabre.db");
    (folder, file)
}

/// Version 1 with one room.
async fn first(file: &Path) {
    let store = opened(file, 1).await;
    add(&store, "of 1").await;
    store.close().await;
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| {
            entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[tokio::test]
async fn an_older_version_finds_the_data_as_they_were_before_the_newer_one() {
    let (folder, file) = place();
    first(&file).await;
    assert!(names(&folder.path().join("backup")).is_empty());
    let store = opened(&file, 2).await;
    add(&store, "of 2").await;
    store.close().await;
    assert_eq!(names(&folder.path().join("backup")), ["before-2"]);

    let store = opened(&file, 1).await;
    assert_eq!(rooms(&store).await, ["of 1"]);
    let restored = store.restored().unwrap();
    assert_eq!(restored.before, "2");
    // Told once, and not forgotten before.
    store.close().await;
    let store = opened(&file, 1).await;
    assert_eq!(store.restored(), Some(restored.clone()));
    store.told();
    assert_eq!(store.restored(), None);
    add(&store, "of 1 again").await;
    store.close().await;
    let store = opened(&file, 1).await;
    assert_eq!(store.restored(), None);
    assert_eq!(rooms(&store).await, ["of 1", "of 1 again"]);
    store.close().await;

    // The newer data are whole, under another name.
    let elsewhere = folder.path().join("other/palabre.db");
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    fs::copy(&restored.aside, &elsewhere).unwrap();
    let store = opened(&elsewhere, 2).await;
    assert_eq!(rooms(&store).await, ["of 1", "of 2"]);
    store.close().await;
    // A second round keeps a second one.
    opened(&file, 3).await.close().await;
    opened(&file, 1).await.close().await;
    let aside = names(&folder.path().join("aside"));
    assert_eq!(aside, ["schema-9999-1.db", "schema-9999-2.db"]);
}

#[tokio::test]
async fn a_database_that_can_be_read_is_never_put_aside() {
    let (folder, file) = place();
    first(&file).await;
    // A newer version of the same schema.
    let store = Store::open_with(&file, "2", &MIGRATIONS, &mut || Ok(())).await;
    let store = store.unwrap();
    add(&store, "of 2").await;
    store.close().await;
    assert_eq!(names(&folder.path().join("backup")), ["before-2"]);
    let store = opened(&file, 1).await;
    assert_eq!(rooms(&store).await, ["of 1", "of 2"]);
    assert_eq!(store.restored(), None);
    store.close().await;
    assert!(!folder.path().join("aside").exists());
}

#[tokio::test]
async fn without_a_whole_copy_a_newer_database_is_left_alone() {
    let (folder, file) = place();
    first(&file).await;
    opened(&file, 2).await.close().await;
    let copy = folder.path().join("backup/before-2/palabre.db");
    let mut bytes = fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&copy, bytes).unwrap();
    let before = fs::read(&file).unwrap();
    for _ in 0..2 {
        let refused = open(&file, 1, &mut || Ok(())).await.unwrap_err();
        assert!(
            matches!(refused, OpenError::Newer { found: 9999, .. }),
            "{refused}"
        );
    }
    assert!(fs::read(&file).unwrap() == before);
    assert!(!folder.path().join("aside").exists());
}

#[tokio::test]
async fn the_last_two_copies_are_kept_for_the_owner_only() {
    let (folder, file) = place();
    first(&file).await;
    for version in 2..7 {
        opened(&file, version).await.close().await;
        opened(&file, version).await.close().await;
    }
    let backup = folder.path().join("backup");
    assert_eq!(names(&backup), ["before-5", "before-6"]);
    let inside = ["backup", "backup/before-6", "backup/before-6/palabre.db"];
    for path in inside.into_iter().chain(["version.json"]) {
        let mode = fs::metadata(folder.path().join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
}

#[tokio::test]
async fn a_disk_that_takes_no_copy_keeps_the_old_schema() {
    let (folder, file) = place();
    first(&file).await;
    // Nothing can be made there.
    fs::write(folder.path().join("backup"), "in the way").unwrap();
    let refused = open(&file, 2, &mut || Ok(())).await.unwrap_err();
    assert!(matches!(refused, OpenError::Backup { .. }), "{refused}");
    let store = opened(&file, 1).await;
    assert_eq!(rooms(&store).await, ["of 1"]);
    store.close().await;
    // A new version that changes nothing starts all the same.
    let store = Store::open_with(&file, "2", &MIGRATIONS, &mut || Ok(())).await;
    assert_eq!(rooms(&store.unwrap()).await, ["of 1"]);
}

#[tokio::test]
async fn half_a_copy_does_not_stay_on_the_disk() {
    let (folder, file) = place();
    first(&file).await;
    let store = opened(&file, 1).await;
    // As when the disk is full: SQLite cannot end it.
    store.pool.close().await;
    let made = Backups::of(&file)
        .make(&store.pool, "2", 1, &mut || Ok(()))
        .await;
    assert!(made.is_err());
    assert!(names(&folder.path().join("backup")).is_empty());
}

/// Opens it with version 1 on a disk that is full when step `full` comes, and the power gone before step `last`.
async fn back_on_a_full_disk(file: &Path, full: usize, last: usize) -> Result<Store, OpenError> {
    let mut step = 0;
    let mut cut = || {
        step += 1;
        match step {
            step if step > last => Err(io::Error::other("the power went")),
            step if step == full => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    };
    open(file, 1, &mut cut).await
}

#[tokio::test]
async fn on_a_full_disk_the_copy_itself_takes_the_place() {
    // The second step is the one that copies.
    const COPIES: usize = 2;
    for last in COPIES.. {
        let (folder, file) = place();
        first(&file).await;
        let store = opened(&file, 2).await;
        add(&store, "of 2").await;
        store.close().await;
        let was_cut = match back_on_a_full_disk(&file, COPIES, last).await {
            Ok(store) => {
                assert!(names(&folder.path().join("backup")).is_empty());
                store.close().await;
                false
            }
            Err(OpenError::Backup { .. }) => true,
            Err(other) => panic!("step {last}: {other}"),
        };
        let store = back_on_a_full_disk(&file, COPIES, usize::MAX).await;
        let store = store.unwrap_or_else(|error| panic!("after a cut at {last}: {error}"));
        assert_eq!(rooms(&store).await, ["of 1"], "cut at {last}");
        assert_eq!(store.restored().expect("it is told").before, "2");
        add(&store, "of 1 again").await;
        store.close().await;
        assert!(!names(folder.path()).contains(&"palabre.db-restoring".to_owned()));
        // The next update copies what is there now, and the way back leads to it.
        opened(&file, 2).await.close().await;
        let store = opened(&file, 1).await;
        assert_eq!(rooms(&store).await, ["of 1", "of 1 again"]);
        store.close().await;
        if !was_cut {
            return;
        }
    }
}

#[tokio::test]
async fn a_version_killed_on_a_full_disk_leaves_the_administrator_what_is_kept() {
    let Some(disk) = Disk::mounted(24 << 20) else {
        return;
    };
    let (living, from) = place();
    first(&from).await;
    let store = opened(&from, 2).await;
    // So many that some are in the journal only: the database they go into grows by them.
    for number in 0..300 {
        add(&store, &format!("{number} {}", "x".repeat(90))).await;
    }
    let file = disk.path().join("palabre.db");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(living.path().join("."));
    assert!(copy.arg(disk.path()).status().unwrap().success());
    store.close().await;
    let length = |file: &Path| fs::metadata(file).unwrap().len();
    assert!(length(&from) > length(&file) + (16 << 10));

    disk.fill();
    let mut step = 0;
    // Until the copy is to be made, whatever somebody gives back belongs to somebody else at once.
    let mut taken = || {
        step += 1;
        if step <= 2 {
            disk.fill();
        }
        Ok(())
    };
    let store = open(&file, 1, &mut taken).await.unwrap();
    assert_eq!(rooms(&store).await, ["of 1"]);
    assert_eq!(store.restored().expect("it is told").before, "2");
    assert!(
        names(&disk.path().join("backup")).is_empty(),
        "a second copy"
    );
    let kept = fs::metadata(disk.path().join("reserve")).unwrap();
    // But for the index of the journal, and a block or two.
    assert!(kept.blocks() * 512 > (8 << 20) - (64 << 10), "{kept:?}");
    store.close().await;
}

/// The power goes before step `last`; whether it went.
async fn cut_at(file: &Path, version: u32, last: usize) -> bool {
    let mut step = 0;
    let mut cut = || {
        step += 1;
        match step > last {
            true => Err(io::Error::other("the power went")),
            false => Ok(()),
        }
    };
    match open(file, version, &mut cut).await {
        Ok(store) => {
            store.close().await;
            false
        }
        Err(OpenError::Backup { .. }) => true,
        Err(other) => panic!("version {version}, step {last}: {other}"),
    }
}

#[tokio::test]
async fn a_cut_at_any_step_loses_nothing_and_the_next_start_goes_on() {
    for (update, back) in [(true, false), (false, true), (true, true)] {
        let mut cuts = 0;
        for last in 0.. {
            let (folder, file) = place();
            first(&file).await;
            let was_cut = update && cut_at(&file, 2, last).await;
            let store = opened(&file, 2).await;
            assert_eq!(rooms(&store).await, ["of 1"], "update cut at {last}");
            add(&store, "of 2").await;
            store.close().await;
            let was_cut_back = back && cut_at(&file, 1, last).await;
            let store = opened(&file, 1).await;
            assert_eq!(rooms(&store).await, ["of 1"], "way back cut at {last}");
            let restored = store.restored().expect("it is told");
            assert_eq!(restored.before, "2");
            store.close().await;
            assert_eq!(names(&folder.path().join("aside")), ["schema-9999-1.db"]);
            let elsewhere = folder.path().join("other/palabre.db");
            fs::create_dir(elsewhere.parent().unwrap()).unwrap();
            fs::copy(restored.aside, &elsewhere).unwrap();
            let store = opened(&elsewhere, 2).await;
            assert_eq!(
                rooms(&store).await,
                ["of 1", "of 2"],
                "aside, cut at {last}"
            );
            store.close().await;
            if !was_cut && !was_cut_back {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 6, "{cuts} steps were cut");
    }
}

#[tokio::test]
async fn a_cut_on_the_way_back_leaves_the_newer_version_its_own_data() {
    for last in 0.. {
        let (_folder, file) = place();
        first(&file).await;
        let store = opened(&file, 2).await;
        add(&store, "of 2").await;
        store.close().await;
        let was_cut = cut_at(&file, 1, last).await;
        let store = opened(&file, 2).await;
        let found = rooms(&store).await;
        assert_eq!(store.restored(), None, "nothing was put back for version 2");
        store.close().await;
        let whole = found == ["of 1", "of 2"] || found == ["of 1"];
        assert!(whole, "{found:?}");
        // And version 1 still finds what was before.
        let store = opened(&file, 1).await;
        assert_eq!(rooms(&store).await[..1], ["of 1"]);
        store.close().await;
        if !was_cut {
            return;
        }
    }
}

const CHILD: &str = "PALABRE_TEST_BACKUP";

/// Not a check by itself: the process that the next test kills. It opens the database as a version
/// and makes rooms, saying each name once the store has acknowledged it.
#[test]
fn the_child_that_is_killed() {
    let Some(told) = std::env::var_os(CHILD) else {
        return;
    };
    let told = told.into_string().unwrap();
    let (version, file) = told.split_once(' ').unwrap();
    writeln!(io::stdout(), "begins").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let store = opened(Path::new(file), version.parse().unwrap()).await;
        let mut out = io::stdout();
        for number in 0_u64.. {
            let name = format!("of {version}, {} {number}", std::process::id());
            add(&store, &name).await;
            if writeln!(out, "room {name}").is_err() {
                return;
            }
            out.flush().unwrap();
        }
    });
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_no_room_of_the_older_version() {
    let (_folder, file) = place();
    first(&file).await;
    let mut acknowledged = vec!["of 1".to_owned()];
    let mut seed = 7_u64;
    for round in 0..24 {
        let version = if round % 2 == 0 { 2 } else { 1 };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::backup::tests::the_child_that_is_killed",
                "--nocapture",
            ])
            .env(CHILD, format!("{version} {}", file.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next().expect("it begins").unwrap() != "begins" {}
        // Somewhere between its first steps and its first rooms.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let until = Instant::now() + Duration::from_millis(seed >> 57);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(name) = line.strip_prefix("room ").filter(|_| version == 1) {
                acknowledged.push(name.to_owned());
            }
        }
        if version == 1 {
            let store = opened(&file, 1).await;
            let found = rooms(&store).await;
            for name in &acknowledged {
                assert!(found.contains(name), "round {round}: {name} is lost");
            }
            store.close().await;
        }
    }
}
