//! The administrator's password: argon2id, hashed away from the threads that answer requests.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{Ident, Output, ParamsString, PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::problem::Problem;
use crate::secret::random;

/// Shortest password taken, in characters. Twelve withstands guessing when tries are slowed.
pub(crate) const SHORTEST: usize = 12;

/// Longest password taken, in bytes: hashing an essay costs us, not its author.
pub(crate) const LONGEST: usize = 256;

/// Passwords hashed at once: each takes 19 MiB and a core for some 30 ms. More answers sign-ins sooner; fewer leaves cores and
/// memory to the media.
const AT_ONCE: usize = 2;

/// The most memory that a kept hash may ask for, in KiB: what is in the database was made here.
const MOST: u32 = 64 * 1024;

/// OWASP's recommended floor for argon2id: 19 MiB, two passes. Higher slows a thief with the database and
/// every sign-in alike.
fn params() -> Params {
    Params::new(19 * 1024, 2, 1, None).expect("constant parameters are in range")
}

/// Where passwords are hashed. Its memory is made when it is first needed, and kept: given back, the allocator keeps as much for
/// every thread that ever hashed, and whoever types wrong passwords would fill the box with it.
pub(crate) struct Hashing {
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            idle: Arc::default(),
        }
    }

    /// Does `work` on another thread, when its turn has come. Who asked may go away meanwhile: the turn lasts until the work is done.
    async fn take<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Problem::Unavailable)?;
        let idle = Arc::clone(&self.idle);
        let done = tokio::task::spawn_blocking(move || {
            let turn = turn;
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut blocks = lock().pop().unwrap_or_default();
            let done = work(&mut blocks);
            // What a password became on the way is nobody's to find.
            blocks.fill(Block::new());
            lock().push(blocks);
            drop(turn);
            done
        });
        done.await.map_err(|_| Problem::Unavailable)
    }
}

/// argon2id of `password` by these parameters.
fn output(
    params: Params,
    password: &str,
    salt: &[u8],
    blocks: &mut Vec<Block>,
) -> argon2::Result<Output> {
    let needed = params.block_count();
    if blocks.len() < needed {
        // At once: a length that grows by halves would leave gaps behind.
        *blocks = vec![Block::new(); needed];
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0u8; Params::DEFAULT_OUTPUT_LEN];
    argon2.hash_password_into_with_memory(
        password.as_bytes(),
        salt,
        &mut hash,
        &mut blocks[..needed],
    )?;
    Ok(Output::new(&hash).expect("32 bytes are an output"))
}

/// The PHC string to keep for `password`.
pub(crate) async fn hash(app: &App, password: String) -> Result<String, Problem> {
    let phc = app.hashing.take(move |blocks| phc(&password, blocks));
    phc.await
}

fn phc(password: &str, blocks: &mut Vec<Block>) -> String {
    let mut salt = [0u8; 16];
    random(&mut salt);
    let kept = SaltString::encode_b64(&salt).expect("sixteen bytes are a salt");
    let hash = output(params(), password, &salt, blocks).expect("constant parameters are in range");
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params()).expect("constant parameters are in range"),
        salt: Some(kept.as_salt()),
        hash: Some(hash),
    };
    phc.to_string()
}

/// Whether `password` is the one kept as `phc`.
pub(crate) async fn is_right(app: &App, password: String, phc: String) -> Result<bool, Problem> {
    let right = app.hashing.take(move |blocks| {
        let Ok(phc) = PasswordHash::new(&phc) else {
            return false;
        };
        matches(&phc, &password, blocks).unwrap_or(false)
    });
    right.await
}

/// Compares in constant time ([`Output`]). Nothing when the hash is of another kind than is made here.
fn matches(phc: &PasswordHash<'_>, password: &str, blocks: &mut Vec<Block>) -> Option<bool> {
    let ours =
        phc.algorithm == Ident::new("argon2id").ok()? && phc.version == Some(Version::V0x13.into());
    let params = Params::try_from(phc).ok()?;
    if !ours || params.m_cost() > MOST {
        return None;
    }
    let mut salt = [0u8; 64];
    let salt = phc.salt?.decode_b64(&mut salt).ok()?;
    let hash = output(params, password, salt, blocks).ok()?;
    Some(phc.hash? == hash)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    use super::*;

    #[test]
    fn what_is_kept_is_what_others_understand_and_theirs_is_understood() {
        let mut blocks = Vec::new();
        let kept = phc("correct horse battery", &mut blocks);
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        let kept = PasswordHash::new(&kept).unwrap();
        let library = Argon2::new(Algorithm::Argon2id, Version::V0x13, params());
        library
            .verify_password(b"correct horse battery", &kept)
            .unwrap();
        library
            .verify_password(b"correct horse batterY", &kept)
            .unwrap_err();
        // Of this program before it had memory of its own, and with other parameters.
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let cheap = Params::new(64, 3, 2, None).unwrap();
        for params in [params(), cheap] {
            let library = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let theirs = library
                .hash_password(b"correct horse battery", &salt)
                .unwrap();
            assert_eq!(
                matches(&theirs, "correct horse battery", &mut blocks),
                Some(true)
            );
            assert_eq!(
                matches(&theirs, "correct horse batterY", &mut blocks),
                Some(false)
            );
        }
        for other in [
            "$argon2d$v=19$m=64,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "$argon2id$v=19$m=4194304,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "$argon2id$v=19$m=64,t=2,p=1",
        ] {
            let other = PasswordHash::new(other).unwrap();
            assert_eq!(
                matches(&other, "correct horse battery", &mut blocks),
                None,
                "{other}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn as_many_are_hashed_at_once_as_there_is_memory_for() {
        let hashing = Arc::new(Hashing::new());
        let now = Arc::new(Mutex::new((0, 0)));
        let ask = |keep: bool| {
            let (hashing, now) = (Arc::clone(&hashing), Arc::clone(&now));
            let asked = tokio::spawn(async move {
                let work = move |blocks: &mut Vec<Block>| {
                    {
                        let mut now = now.lock().unwrap();
                        now.0 += 1;
                        now.1 = now.1.max(now.0);
                    }
                    phc("correct horse battery", blocks);
                    now.lock().unwrap().0 -= 1;
                };
                hashing.take(work).await.unwrap();
            });
            // Somebody who asks and goes away.
            if !keep {
                let asked = asked.abort_handle();
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    asked.abort();
                });
            }
            asked
        };
        let asked: Vec<_> = (0..24).map(|n| ask(n % 2 == 0)).collect();
        for asked in asked {
            let _ = asked.await;
        }
        // What was begun for those who went away has ended too.
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(hashing.turns.acquire_many(all).await.unwrap());
        let (left, most) = *now.lock().unwrap();
        assert_eq!(left, 0);
        assert!(most <= AT_ONCE, "{most} at once");
        let idle = hashing.idle.lock().unwrap();
        assert!((1..=AT_ONCE).contains(&idle.len()));
        assert!(
            idle.iter()
                .all(|blocks| blocks.len() == params().block_count())
        );
    }
}
