//! Rooms: what opens them and what they are called. Who is inside is the engine's business.

use std::sync::{Arc, Mutex, PoisonError};

use palabre_engine::directory::{BoxFuture, Directory, DirectoryError, RoomCode, RoomTicket};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::reserve::Reserve;
use super::{StoreError, UnixSeconds, now};
use crate::secret::{random_text, room_code};

/// Letters of a room id, 5 bits each: 100 bits.
const ID_LETTERS: usize = 20;

/// Letters of a slug, 5 bits each: 160 bits, so that nobody guesses a link.
const SLUG_LETTERS: usize = 32;

/// Codes drawn before giving up. With 9 million rooms one draw in a hundred is taken; ten in a row never.
const DRAWS: usize = 10;

/// A room as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Random name in the LiveKit protocol and in the API; never changes, opens nothing by itself.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The nine digits that open it today.
    pub code: RoomCode,
    /// The unguessable end of its join link.
    pub slug: String,
    /// Most participants at once, when limited.
    pub max_participants: Option<u32>,
    /// When it was created.
    pub created: UnixSeconds,
}

/// A room to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoom {
    /// What people will call it.
    pub name: String,
    /// Most participants at once, when limited.
    pub max_participants: Option<u32>,
}

/// Part of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rooms of this page.
    pub rooms: Vec<Room>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<i64>,
    /// Rooms in all.
    pub total: u64,
}

/// The repository of rooms.
#[derive(Clone, Debug)]
pub struct Rooms {
    pool: SqlitePool,
    reserve: Reserve,
    passing: Slot,
}

/// The room that passes, while there is one.
type Slot = Arc<Mutex<Option<Room>>>;

/// A room that is kept nowhere and in no list, for who knows its code or its id. Dropping this ends it.
#[derive(Debug)]
pub struct Passing {
    room: Room,
    slot: Slot,
}

impl Passing {
    /// The room.
    pub fn room(&self) -> &Room {
        &self.room
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Rooms {
    pub(super) fn new(pool: SqlitePool, reserve: Reserve) -> Self {
        Self {
            pool,
            reserve,
            passing: Slot::default(),
        }
    }

    /// Makes a room that passes; `None` while there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn pass(&self, new: &NewRoom) -> Result<Option<Passing>, StoreError> {
        let mut code = room_code();
        while self.by_code(&code).await?.is_some() {
            code = room_code();
        }
        let mut passing = self.passing();
        if passing.is_some() {
            return Ok(None);
        }
        let room = Room {
            id: room_id(),
            name: new.name.clone(),
            code,
            slug: String::new(),
            max_participants: new.max_participants,
            created: now(),
        };
        *passing = Some(room.clone());
        let slot = Arc::clone(&self.passing);
        Ok(Some(Passing { room, slot }))
    }

    /// Whether the room of this id passes.
    pub fn is_passing(&self, id: &str) -> bool {
        self.passing_if(|room| room.id == id).is_some()
    }

    fn passing(&self) -> std::sync::MutexGuard<'_, Option<Room>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passing_if(&self, is_it: impl FnOnce(&Room) -> bool) -> Option<Room> {
        self.passing().clone().filter(is_it)
    }

    /// Makes a room with a fresh id, code and slug.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn create(&self, new: &NewRoom) -> Result<Room, StoreError> {
        let _turn = self.reserve.ordinary().await;
        let created = now();
        for _ in 0..DRAWS {
            let rows = sqlx::query(
                "INSERT INTO rooms (id, name, code, slug, max_participants, created)
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING *",
            )
            .bind(room_id())
            .bind(&new.name)
            .bind(room_code().as_str())
            .bind(random_text(SLUG_LETTERS))
            .bind(new.max_participants)
            .bind(created)
            .fetch_all(&self.pool)
            .await?;
            if let Some(row) = written(&rows) {
                return read(row);
            }
        }
        Err(StoreError::other("no free room code was found"))
    }

    /// One page of rooms, newest first, from the cursor `before` of the page before.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list(&self, before: Option<i64>, size: u32) -> Result<Page, StoreError> {
        let total: i64 = sqlx::query_scalar("SELECT count(*) FROM rooms")
            .fetch_one(&self.pool)
            .await?;
        let rows = sqlx::query("SELECT * FROM rooms WHERE number < ? ORDER BY number DESC LIMIT ?")
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(size) + 1)
            .fetch_all(&self.pool)
            .await?;
        let size = size as usize;
        let next = match rows.get(..size).and_then(<[_]>::last) {
            Some(last) if rows.len() > size => Some(last.try_get("number")?),
            _ => None,
        };
        let rooms = rows.iter().take(size).map(read).collect::<Result<_, _>>()?;
        Ok(Page {
            rooms,
            next,
            total: total.unsigned_abs(),
        })
    }

    /// The room of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn by_id(&self, id: &str) -> Result<Option<Room>, StoreError> {
        let row = sqlx::query("SELECT * FROM rooms WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        match row {
            Some(row) => read(&row).map(Some),
            None => Ok(self.passing_if(|room| room.id == id)),
        }
    }

    /// The room this code opens now.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn by_code(&self, code: &RoomCode) -> Result<Option<Room>, StoreError> {
        let row = sqlx::query("SELECT * FROM rooms WHERE code = ?")
            .bind(code.as_str())
            .fetch_optional(&self.pool)
            .await?;
        match row {
            Some(row) => read(&row).map(Some),
            None => Ok(self.passing_if(|room| room.code == *code)),
        }
    }

    /// The room whose link carries this slug.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn by_slug(&self, slug: &str) -> Result<Option<Room>, StoreError> {
        let row = sqlx::query("SELECT * FROM rooms WHERE slug = ?")
            .bind(slug)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Gives the room another code; the one before opens nothing from now on.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn change_code(&self, id: &str) -> Result<Option<Room>, StoreError> {
        let _turn = self.reserve.ordinary().await;
        for _ in 0..DRAWS {
            let changed = sqlx::query(
                "UPDATE OR IGNORE rooms SET code = ?1 WHERE id = ?2 AND code <> ?1 RETURNING *",
            )
            .bind(room_code().as_str())
            .bind(id)
            .fetch_all(&self.pool)
            .await?;
            if let Some(row) = written(&changed) {
                return read(row).map(Some);
            }
            if self.by_id(id).await?.is_none() {
                return Ok(None);
            }
        }
        Err(StoreError::other("no free room code was found"))
    }

    /// Deletes the room; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let delete = || async {
            let done = sqlx::query("DELETE FROM rooms WHERE id = ?")
                .bind(id)
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected() > 0)
        };
        self.reserve.urgent(&self.pool, delete).await
    }

    /// This repository as the directory that the page and the telephone ask.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(self.clone())
    }
}

/// A room's id. The letter keeps it from ever being nine digits, which is what a code is.
fn room_id() -> String {
    format!("r{}", random_text(ID_LETTERS))
}

/// The row that a statement with RETURNING wrote, of all it gave: SQLite gives the row first and commits
/// when it is asked for the next, so whoever takes only the first row never hears that the commit failed.
fn written(rows: &[SqliteRow]) -> Option<&SqliteRow> {
    rows.first()
}

fn read(row: &SqliteRow) -> Result<Room, StoreError> {
    let code: String = row.try_get("code")?;
    let code =
        RoomCode::parse(&code).map_err(|_| StoreError::other("a room has a damaged code"))?;
    Ok(Room {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        code,
        slug: row.try_get("slug")?,
        max_participants: row.try_get("max_participants")?,
        created: row.try_get("created")?,
    })
}

fn ticket(found: Result<Option<Room>, StoreError>) -> Result<Option<RoomTicket>, DirectoryError> {
    match found {
        Ok(room) => Ok(room.map(|room| RoomTicket {
            room: room.id,
            title: room.name,
            code: room.code,
            max_participants: room.max_participants,
        })),
        Err(error) => Err(DirectoryError { cause: error.cause }),
    }
}

impl Directory for Rooms {
    fn room_by_code(
        &self,
        code: &RoomCode,
    ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
        let code = *code;
        Box::pin(async move { ticket(self.by_code(&code).await) })
    }

    fn room_by_slug(
        &self,
        slug: &str,
    ) -> BoxFuture<'_, Result<Option<RoomTicket>, DirectoryError>> {
        let slug = slug.to_owned();
        Box::pin(async move { ticket(self.by_slug(&slug).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::empty;
    use std::collections::HashSet;

    fn named(name: &str) -> NewRoom {
        NewRoom {
            name: name.to_owned(),
            max_participants: None,
        }
    }

    #[tokio::test]
    async fn every_key_of_a_room_finds_it() {
        let (_folder, store) = empty().await;
        let new = NewRoom {
            name: "Comité".into(),
            max_participants: Some(12),
        };
        let room = store.rooms.create(&new).await.unwrap();
        assert_eq!(room.max_participants, Some(12));
        assert!(room.slug.len() * 5 >= 128);
        assert_ne!(room.id, room.code.as_str());
        assert_eq!(
            store.rooms.by_id(&room.id).await.unwrap().as_ref(),
            Some(&room)
        );
        assert_eq!(
            store.rooms.by_code(&room.code).await.unwrap().as_ref(),
            Some(&room)
        );
        assert_eq!(
            store.rooms.by_slug(&room.slug).await.unwrap().as_ref(),
            Some(&room)
        );
        assert_eq!(store.rooms.by_id(room.code.as_str()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn pages_show_every_room_once_newest_first() {
        let (_folder, store) = empty().await;
        for number in 0..7 {
            store
                .rooms
                .create(&named(&number.to_string()))
                .await
                .unwrap();
        }
        let (mut names, mut before) = (Vec::new(), None);
        loop {
            let page = store.rooms.list(before, 3).await.unwrap();
            assert_eq!(page.total, 7);
            names.extend(page.rooms.into_iter().map(|room| room.name));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(names, ["6", "5", "4", "3", "2", "1", "0"]);
    }

    #[tokio::test]
    async fn a_changed_code_opens_and_the_old_one_does_not() {
        let (_folder, store) = empty().await;
        let room = store.rooms.create(&named("a")).await.unwrap();
        let changed = store.rooms.change_code(&room.id).await.unwrap().unwrap();
        assert_ne!(changed.code, room.code);
        assert_eq!(changed.slug, room.slug);
        assert_eq!(store.rooms.by_code(&room.code).await.unwrap(), None);
        assert!(store.rooms.by_code(&changed.code).await.unwrap().is_some());
        assert_eq!(store.rooms.change_code("absent").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_deleted_room_is_gone() {
        let (_folder, store) = empty().await;
        let room = store.rooms.create(&named("a")).await.unwrap();
        assert!(store.rooms.delete(&room.id).await.unwrap());
        assert!(!store.rooms.delete(&room.id).await.unwrap());
        assert_eq!(store.rooms.by_code(&room.code).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_passing_room_opens_by_its_code_is_in_no_list_and_ends() {
        let (_folder, store) = empty().await;
        let passing = store.rooms.pass(&named("call")).await.unwrap().unwrap();
        let room = passing.room().clone();
        assert!(store.rooms.pass(&named("another")).await.unwrap().is_none());
        assert!(store.rooms.is_passing(&room.id));
        let found = store.rooms.by_code(&room.code).await.unwrap();
        assert_eq!(found.as_ref(), Some(&room));
        let found = store.rooms.by_id(&room.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&room));
        assert_eq!(store.rooms.by_slug(&room.slug).await.unwrap(), None);
        let listed = store.rooms.list(None, 10).await.unwrap();
        assert_eq!((listed.rooms.len(), listed.total), (0, 0));
        drop(passing);
        assert!(!store.rooms.is_passing(&room.id));
        assert_eq!(store.rooms.by_code(&room.code).await.unwrap(), None);
        assert_eq!(store.rooms.by_id(&room.id).await.unwrap(), None);
        assert!(store.rooms.pass(&named("next")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn codes_made_at_once_are_all_different() {
        let (_folder, store) = empty().await;
        let mut rooms = tokio::task::JoinSet::new();
        for number in 0..50 {
            let store = store.clone();
            rooms.spawn(async move { store.rooms.create(&named(&number.to_string())).await });
        }
        let rooms = rooms.join_all().await;
        let codes: HashSet<_> = rooms.into_iter().map(|room| room.unwrap().code).collect();
        assert_eq!(codes.len(), 50);
    }

    #[tokio::test]
    async fn a_name_is_a_value_never_sql() {
        let (_folder, store) = empty().await;
        let room = store
            .rooms
            .create(&named("'); DROP TABLE rooms; --"))
            .await
            .unwrap();
        assert_eq!(store.rooms.by_id(&room.id).await.unwrap(), Some(room));
        assert_eq!(store.rooms.by_slug("' OR 1=1 --").await.unwrap(), None);
    }
}
