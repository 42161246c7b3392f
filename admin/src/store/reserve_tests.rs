use std::path::{Path, PathBuf};

use palabre_tests::disk::Disk;

use super::*;
use crate::store::{AccountId, Claimed, NewRoom, OpenError, Store};

/// A disk with room for what is kept, a database, and as much again.
const DISK: u64 = 20 << 20;

fn named(name: &str) -> NewRoom {
    NewRoom {
        name: name.to_owned(),
        max_participants: None,
    }
}

async fn open(disk: &Disk) -> Store {
    Store::open(&disk.path().join("palabre.db")).await.unwrap()
}

async fn claim(store: &Store) -> AccountId {
    let code = store.access.new_claim_code().await.unwrap().unwrap();
    match store.access.claim(code.reveal(), "phc").await.unwrap() {
        Claimed::Done(account) => account,
        other => panic!("{other:?}"),
    }
}

/// Takes what the disk has, and what the journal has, as rooms. The last one that was refused.
async fn fill(disk: &Disk, store: &Store) -> StoreError {
    disk.fill();
    for _ in 0..100_000 {
        if let Err(error) = store.rooms.create(&named(&"x".repeat(100))).await {
            return error;
        }
    }
    panic!("a full disk takes rooms without end");
}

/// Bytes that are kept.
fn kept(disk: &Disk) -> u64 {
    let file = File::open(disk.path().join("reserve")).unwrap();
    allocated(&file).unwrap()
}

#[tokio::test]
async fn on_a_full_disk_one_can_sign_in_and_delete_for_ever_and_nothing_else() {
    let Some(disk) = Disk::mounted(DISK) else {
        return;
    };
    let store = open(&disk).await;
    let account = claim(&store).await;
    assert_eq!(kept(&disk), SIZE);
    let key = store.keys.create("application").await.unwrap();
    let (token, _) = store
        .access
        .create_token(&account, "tool", None)
        .await
        .unwrap();
    // Enough that the journal holds pages the database has no room for yet.
    for number in 0..400 {
        let room = named(&number.to_string());
        store.rooms.create(&room).await.unwrap();
    }
    for _ in 0..3 {
        let refused = fill(&disk, &store).await;
        assert_eq!(refused.fault, Fault::Full, "{refused}");
        assert_eq!(kept(&disk), SIZE, "rooms took what is not for them");
    }

    let rooms = store.rooms.list(None, 1000).await.unwrap();
    for room in rooms.rooms.iter().take(300) {
        let session = store.access.open_session(&account, 60).await.unwrap();
        let whose = store.access.session(session.reveal()).await.unwrap();
        assert_eq!(whose.as_ref(), Some(&account));
        assert!(store.rooms.delete(&room.id).await.unwrap());
        store.access.close_session(session.reveal()).await.unwrap();
        // Whatever a file of the database gave back belongs to somebody else at once.
        disk.fill();
        assert_eq!(kept(&disk), SIZE, "not given back");
    }
    let left = store.rooms.list(None, 1).await.unwrap().total;
    assert_eq!(left, rooms.total - 300);
    assert!(store.keys.delete(&key.id).await.unwrap());
    assert!(store.access.delete_token(&token.id).await.unwrap());

    let refused = fill(&disk, &store).await;
    assert_eq!(refused.fault, Fault::Full);
    let refused = store.keys.create("another").await.unwrap_err();
    assert_eq!(refused.fault, Fault::Full);
    let refused = store.access.change_password(&account, "other").await;
    assert_eq!(refused.unwrap_err().fault, Fault::Full);
    assert_eq!(kept(&disk), SIZE);
}

#[tokio::test]
async fn a_database_on_a_full_disk_opens_and_is_used() {
    let Some(disk) = Disk::mounted(DISK) else {
        return;
    };
    let store = open(&disk).await;
    let account = claim(&store).await;
    let room = store.rooms.create(&named("kept")).await.unwrap();
    // Closed as it should be: no journal is left, and no index of it.
    store.close().await;
    disk.fill();
    let store = open(&disk).await;
    // And it stays open: the next could not be.
    let pool = store.pool.options();
    assert_eq!(
        (pool.get_idle_timeout(), pool.get_max_lifetime()),
        (None, None)
    );
    assert_eq!(
        store.rooms.by_id(&room.id).await.unwrap().as_ref(),
        Some(&room)
    );
    store.access.open_session(&account, 60).await.unwrap();
    assert!(store.rooms.delete(&room.id).await.unwrap());
    let refused = fill(&disk, &store).await;
    assert_eq!(refused.fault, Fault::Full);
}

#[tokio::test]
async fn what_is_short_is_whole_again_once_there_is_room() {
    let Some(disk) = Disk::mounted(DISK) else {
        return;
    };
    let store = open(&disk).await;
    let account = claim(&store).await;
    // Somebody was faster than we.
    store.reserve.give_up().unwrap();
    disk.fill();
    assert_eq!(kept(&disk), 0);
    disk.clear();
    let other = disk.path().join("other");
    std::fs::write(&other, vec![1; (disk.free() - (2 << 20)) as usize]).unwrap();
    // All there is, then.
    store.access.open_session(&account, 60).await.unwrap();
    let part = kept(&disk);
    assert!((1 << 20..=2 << 20).contains(&part), "{part}");
    assert_eq!(disk.free(), 0);
    let refused = fill(&disk, &store).await;
    assert_eq!(refused.fault, Fault::Full);
    disk.clear();
    std::fs::remove_file(&other).unwrap();
    store.refill().await;
    assert_eq!(kept(&disk), SIZE);
    store.rooms.create(&named("at last")).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_beginning_is_named() {
    let Some(disk) = Disk::mounted(1 << 20) else {
        return;
    };
    disk.fill();
    let file: PathBuf = disk.path().join("palabre.db");
    let refused = Store::open(Path::new(&file)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    assert!(refused.to_string().contains("full"), "{refused}");
}
