//! Who may administer: the claim code of a new box, the administrator's password, sessions and tokens.
//!
//! Passwords are given already hashed; session and token texts are kept as SHA-256 only.

use std::sync::Arc;

use sqlx::{Row, SqlitePool};
use tokio::sync::Notify;

use super::reserve::Reserve;
use super::{StoreError, UnixSeconds, now};
use crate::secret::{Secret, hash, random_text};

/// Letters of a claim code, 5 bits each: 80 bits, shown four by four.
const CLAIM_LETTERS: usize = 16;

/// Letters of session and bearer texts, 5 bits each: 255 bits.
const TOKEN_LETTERS: usize = 51;

/// The account that administers the box. One today; the type leaves room for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountId(String);

impl AccountId {
    /// The administrator made by the claim code.
    fn administrator() -> Self {
        Self("administrator".to_owned())
    }

    /// The name of the account.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The password is set.
    Done(AccountId),
    /// The code is not the box's.
    WrongCode,
    /// The box has its administrator.
    Already,
}

/// A bearer token as it is listed: never its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerToken {
    /// Names the token in the API.
    pub id: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it ends, if ever.
    pub expires: Option<UnixSeconds>,
}

/// The repository of accounts, sessions and tokens.
#[derive(Clone, Debug)]
pub struct Access {
    pool: SqlitePool,
    reserve: Reserve,
    claimed: Arc<Notify>,
}

impl Access {
    pub(super) fn new(pool: SqlitePool, reserve: Reserve) -> Self {
        Self {
            pool,
            reserve,
            claimed: Arc::default(),
        }
    }

    /// A fresh claim code while the box has no administrator, else `None`.
    ///
    /// Called once per start: the code printed before is void, so a lost one is replaced by a restart.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn new_claim_code(&self) -> Result<Option<Secret>, StoreError> {
        let letters = random_text(CLAIM_LETTERS).to_uppercase();
        let done = sqlx::query(
            "INSERT INTO claim (one, code_hash) SELECT 1, ? WHERE NOT EXISTS (SELECT 1 FROM accounts)
             ON CONFLICT (one) DO UPDATE SET code_hash = excluded.code_hash",
        )
        .bind(hash(&letters))
        .execute(&self.pool)
        .await?;
        Ok((done.rows_affected() > 0).then(|| {
            let groups: Vec<&str> = (0..CLAIM_LETTERS)
                .step_by(4)
                .map(|start| &letters[start..start + 4])
                .collect();
            Secret::new(groups.join("-"))
        }))
    }

    /// Whether the box has its administrator.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn is_claimed(&self) -> Result<bool, StoreError> {
        let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts")
            .fetch_one(&self.pool)
            .await?;
        Ok(accounts > 0)
    }

    /// Completes once somebody has claimed the box since it started, for one who waits: a box is claimed once.
    pub async fn claimed(&self) {
        self.claimed.notified().await;
    }

    /// Makes the administrator's account, once, for whoever knows the claim code.
    ///
    /// `password` is an argon2id PHC string.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn claim(&self, code: &str, password: &str) -> Result<Claimed, StoreError> {
        let _turn = self.reserve.ordinary().await;
        let account = AccountId::administrator();
        // One statement decides: two people claiming at once cannot both win.
        let done = sqlx::query(
            "INSERT INTO accounts (id, password, created)
             SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM claim WHERE code_hash = ?)
                AND NOT EXISTS (SELECT 1 FROM accounts)",
        )
        .bind(account.as_str())
        .bind(password)
        .bind(now())
        .bind(claim_hash(code))
        .execute(&self.pool)
        .await?;
        if done.rows_affected() > 0 {
            self.claimed.notify_one();
            sqlx::query("DELETE FROM claim").execute(&self.pool).await?;
            return Ok(Claimed::Done(account));
        }
        Ok(if self.is_claimed().await? {
            Claimed::Already
        } else {
            Claimed::WrongCode
        })
    }

    /// Whether `code` would be accepted now, so that no password is hashed for a wrong one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn is_claim_code(&self, code: &str) -> Result<bool, StoreError> {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM claim WHERE code_hash = ?")
            .bind(claim_hash(code))
            .fetch_one(&self.pool)
            .await?;
        Ok(found > 0)
    }

    /// The administrator and the PHC string of the password.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn administrator(&self) -> Result<Option<(AccountId, String)>, StoreError> {
        let account = AccountId::administrator();
        let password = sqlx::query_scalar("SELECT password FROM accounts WHERE id = ?")
            .bind(account.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(password.map(|password| (account, password)))
    }

    /// Replaces the administrator's password and ends every session.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn change_password(
        &self,
        account: &AccountId,
        password: &str,
    ) -> Result<(), StoreError> {
        let _turn = self.reserve.ordinary().await;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE accounts SET password = ? WHERE id = ?")
            .bind(password)
            .bind(account.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM sessions WHERE account = ?")
            .bind(account.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Opens a session of `seconds`; returns the text of its cookie.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn open_session(
        &self,
        account: &AccountId,
        seconds: u64,
    ) -> Result<Secret, StoreError> {
        let text = random_text(TOKEN_LETTERS);
        let open = || async {
            sqlx::query("DELETE FROM sessions WHERE expires <= ?")
                .bind(now())
                .execute(&self.pool)
                .await?;
            sqlx::query("INSERT INTO sessions (hash, account, expires) VALUES (?, ?, ?)")
                .bind(hash(&text))
                .bind(account.as_str())
                .bind(now().saturating_add_unsigned(seconds))
                .execute(&self.pool)
                .await?;
            Ok(())
        };
        self.reserve.urgent(&self.pool, open).await?;
        Ok(Secret::new(text))
    }

    /// Whose session this cookie text opens.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn session(&self, text: &str) -> Result<Option<AccountId>, StoreError> {
        let account =
            sqlx::query_scalar("SELECT account FROM sessions WHERE hash = ? AND expires > ?")
                .bind(hash(text))
                .bind(now())
                .fetch_optional(&self.pool)
                .await?;
        Ok(account.map(AccountId))
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn close_session(&self, text: &str) -> Result<(), StoreError> {
        let close = || async {
            sqlx::query("DELETE FROM sessions WHERE hash = ?")
                .bind(hash(text))
                .execute(&self.pool)
                .await?;
            Ok(())
        };
        self.reserve.urgent(&self.pool, close).await
    }

    /// Makes a bearer token; its text is returned this once.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn create_token(
        &self,
        account: &AccountId,
        name: &str,
        expires: Option<UnixSeconds>,
    ) -> Result<(BearerToken, Secret), StoreError> {
        let _turn = self.reserve.ordinary().await;
        let text = format!("plb_{}", random_text(TOKEN_LETTERS));
        let token = BearerToken {
            id: random_text(16),
            name: name.to_owned(),
            created: now(),
            expires,
        };
        sqlx::query(
            "INSERT INTO tokens (id, hash, account, name, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.id)
        .bind(hash(&text))
        .bind(account.as_str())
        .bind(&token.name)
        .bind(token.created)
        .bind(token.expires)
        .execute(&self.pool)
        .await?;
        Ok((token, Secret::new(text)))
    }

    /// Whose token this text is.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn token(&self, text: &str) -> Result<Option<AccountId>, StoreError> {
        let account = sqlx::query_scalar(
            "SELECT account FROM tokens WHERE hash = ? AND (expires IS NULL OR expires > ?)",
        )
        .bind(hash(text))
        .bind(now())
        .fetch_optional(&self.pool)
        .await?;
        Ok(account.map(AccountId))
    }

    /// All tokens, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn tokens(&self) -> Result<Vec<BearerToken>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, created, expires FROM tokens ORDER BY created DESC, id LIMIT 1000",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(BearerToken {
                    id: row.try_get("id")?,
                    name: row.try_get("name")?,
                    created: row.try_get("created")?,
                    expires: row.try_get("expires")?,
                })
            })
            .collect()
    }

    /// Deletes a token; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        let delete = || async {
            let done = sqlx::query("DELETE FROM tokens WHERE id = ?")
                .bind(id)
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected() > 0)
        };
        self.reserve.urgent(&self.pool, delete).await
    }
}

/// Hash of a claim code as typed: case, hyphens and blanks do not count; o, i and l are read as 0 and 1.
fn claim_hash(code: &str) -> Vec<u8> {
    let letters: String = code
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric())
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        })
        .collect();
    hash(&letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, empty};

    async fn account(store: &Store) -> AccountId {
        let code = store.access.new_claim_code().await.unwrap().unwrap();
        match store.access.claim(code.reveal(), "phc").await.unwrap() {
            Claimed::Done(account) => account,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_claim_code_works_once() {
        let (_folder, store) = empty().await;
        assert!(!store.access.is_claimed().await.unwrap());
        let code = store.access.new_claim_code().await.unwrap().unwrap();
        assert_eq!(code.reveal().len(), 19);
        assert_eq!(
            store
                .access
                .claim("0000-0000-0000-0000", "p")
                .await
                .unwrap(),
            Claimed::WrongCode
        );
        let typed = code
            .reveal()
            .to_lowercase()
            .replace('-', " ")
            .replace('0', "o");
        assert!(store.access.is_claim_code(&typed).await.unwrap());
        let early = tokio::time::timeout(std::time::Duration::ZERO, store.access.claimed()).await;
        assert!(early.is_err(), "nobody has claimed it yet");
        assert!(matches!(
            store.access.claim(&typed, "p").await.unwrap(),
            Claimed::Done(_)
        ));
        store.access.claimed().await;
        assert_eq!(
            store.access.claim(code.reveal(), "q").await.unwrap(),
            Claimed::Already
        );
        assert_eq!(store.access.new_claim_code().await.unwrap(), None);
        assert_eq!(store.access.administrator().await.unwrap().unwrap().1, "p");
    }

    #[tokio::test]
    async fn a_restart_before_the_claim_replaces_the_code() {
        let (_folder, store) = empty().await;
        let first = store.access.new_claim_code().await.unwrap().unwrap();
        let second = store.access.new_claim_code().await.unwrap().unwrap();
        assert!(!store.access.is_claim_code(first.reveal()).await.unwrap());
        assert!(store.access.is_claim_code(second.reveal()).await.unwrap());
    }

    #[tokio::test]
    async fn two_claims_at_once_make_one_administrator() {
        let (_folder, store) = empty().await;
        let code = store.access.new_claim_code().await.unwrap().unwrap();
        let (a, b) = tokio::join!(
            store.access.claim(code.reveal(), "a"),
            store.access.claim(code.reveal(), "b")
        );
        let done = [a.unwrap(), b.unwrap()]
            .iter()
            .filter(|c| matches!(c, Claimed::Done(_)))
            .count();
        assert_eq!(done, 1);
    }

    #[tokio::test]
    async fn a_session_opens_until_it_is_closed_or_over() {
        let (_folder, store) = empty().await;
        let account = account(&store).await;
        let session = store.access.open_session(&account, 60).await.unwrap();
        assert_eq!(
            store.access.session(session.reveal()).await.unwrap(),
            Some(account.clone())
        );
        store.access.close_session(session.reveal()).await.unwrap();
        assert_eq!(store.access.session(session.reveal()).await.unwrap(), None);
        let over = store.access.open_session(&account, 0).await.unwrap();
        assert_eq!(store.access.session(over.reveal()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn another_password_ends_the_sessions() {
        let (_folder, store) = empty().await;
        let account = account(&store).await;
        let session = store.access.open_session(&account, 60).await.unwrap();
        store
            .access
            .change_password(&account, "other")
            .await
            .unwrap();
        assert_eq!(store.access.session(session.reveal()).await.unwrap(), None);
        assert_eq!(
            store.access.administrator().await.unwrap().unwrap().1,
            "other"
        );
    }

    #[tokio::test]
    async fn a_token_opens_until_it_is_deleted_or_over() {
        let (_folder, store) = empty().await;
        let account = account(&store).await;
        let (token, text) = store
            .access
            .create_token(&account, "script", None)
            .await
            .unwrap();
        assert_eq!(
            store.access.token(text.reveal()).await.unwrap(),
            Some(account.clone())
        );
        assert_eq!(
            store.access.tokens().await.unwrap(),
            std::slice::from_ref(&token)
        );
        assert!(store.access.delete_token(&token.id).await.unwrap());
        assert_eq!(store.access.token(text.reveal()).await.unwrap(), None);
        let (_, over) = store
            .access
            .create_token(&account, "old", Some(1))
            .await
            .unwrap();
        assert_eq!(store.access.token(over.reveal()).await.unwrap(), None);
    }
}
