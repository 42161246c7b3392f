//! LiveKit API keys: who may mint tokens, and the secret that signs them.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::reserve::Reserve;
use super::{StoreError, UnixSeconds, now};
use crate::secret::{Secret, random_text};

/// Letters of a secret, 5 bits each: 255 bits, what HS256 can use.
const SECRET_LETTERS: usize = 51;

/// A key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The key: `iss` of the tokens it signs.
    pub id: String,
    /// What signs.
    pub secret: Secret,
    /// What it is for, in its maker's words.
    pub name: String,
    /// Whether it is the box's own key, with which the pages' tokens are minted.
    pub is_pages: bool,
    /// When it was made.
    pub created: UnixSeconds,
}

/// The repository of LiveKit API keys.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    pool: SqlitePool,
    reserve: Reserve,
}

impl ApiKeys {
    pub(super) fn new(pool: SqlitePool, reserve: Reserve) -> Self {
        Self { pool, reserve }
    }

    /// Makes a key for an application.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn create(&self, name: &str) -> Result<ApiKey, StoreError> {
        let _turn = self.reserve.ordinary().await;
        let key = fresh(name, false);
        insert(&self.pool, &key).await?;
        Ok(key)
    }

    /// The box's own key, made at the first call.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn pages(&self) -> Result<ApiKey, StoreError> {
        let find =
            || sqlx::query("SELECT * FROM api_keys WHERE is_pages = 1").fetch_optional(&self.pool);
        if let Some(row) = find().await? {
            return read(&row);
        }
        // Whoever comes second keeps the key of the first.
        insert(&self.pool, &fresh("pages", true)).await?;
        match find().await? {
            Some(row) => read(&row),
            None => Err(StoreError::other("the box's own key is not kept")),
        }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn by_id(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The applications' keys, newest first; the box's own is not among them.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM api_keys WHERE is_pages = 0 ORDER BY created DESC, id LIMIT 1000",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Deletes an application's key: its tokens open nothing from now on. Says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let delete = || async {
            let done = sqlx::query("DELETE FROM api_keys WHERE id = ? AND is_pages = 0")
                .bind(id)
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected() > 0)
        };
        self.reserve.urgent(&self.pool, delete).await
    }
}

fn fresh(name: &str, is_pages: bool) -> ApiKey {
    ApiKey {
        id: format!("API{}", random_text(12)),
        secret: Secret::new(random_text(SECRET_LETTERS)),
        name: name.to_owned(),
        is_pages,
        created: now(),
    }
}

async fn insert(pool: &SqlitePool, key: &ApiKey) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (id, secret, name, is_pages, created) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (is_pages) WHERE is_pages = 1 DO NOTHING",
    )
    .bind(&key.id)
    .bind(key.secret.reveal())
    .bind(&key.name)
    .bind(key.is_pages)
    .bind(key.created)
    .execute(pool)
    .await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.try_get("id")?,
        secret: Secret::new(row.try_get("secret")?),
        name: row.try_get("name")?,
        is_pages: row.try_get("is_pages")?,
        created: row.try_get("created")?,
    })
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[tokio::test]
    async fn the_boxs_own_key_stays_and_is_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("palabre.db");
        let store = Store::open(&file).await.unwrap();
        let (a, b) = tokio::join!(store.keys.pages(), store.keys.pages());
        let pages = a.unwrap();
        assert_eq!(Ok(&pages), b.as_ref());
        assert!(!store.keys.delete(&pages.id).await.unwrap());
        let key = store.keys.create("Visio").await.unwrap();
        assert_eq!(store.keys.list().await.unwrap(), std::slice::from_ref(&key));
        store.close().await;
        let store = Store::open(&file).await.unwrap();
        assert_eq!(store.keys.pages().await.unwrap(), pages);
        assert_eq!(
            store.keys.by_id(&key.id).await.unwrap().as_ref(),
            Some(&key)
        );
        assert!(store.keys.delete(&key.id).await.unwrap());
        assert!(!format!("{key:?}").contains(key.secret.reveal()));
    }
}
