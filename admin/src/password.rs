//! The administrator's password: argon2id, hashed away from the threads that answer requests.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::app::App;
use crate::problem::Problem;
use crate::secret::random;

/// Shortest password taken, in characters. Twelve withstands guessing when tries are slowed.
pub(crate) const SHORTEST: usize = 12;

/// Longest password taken, in bytes: hashing an essay costs us, not its author.
pub(crate) const LONGEST: usize = 256;

/// OWASP's recommended floor for argon2id: 19 MiB, two passes. Higher slows a thief with the database and
/// every sign-in alike.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("constant parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The PHC string to keep for `password`.
pub(crate) async fn hash(app: &App, password: String) -> Result<String, Problem> {
    on_a_thread(app, move || {
        let mut salt = [0u8; 16];
        random(&mut salt);
        let salt = SaltString::encode_b64(&salt).expect("sixteen bytes are a salt");
        let hash = argon2().hash_password(password.as_bytes(), &salt);
        hash.expect("constant parameters are in range").to_string()
    })
    .await
}

/// Whether `password` is the one kept as `phc`.
pub(crate) async fn is_right(app: &App, password: String, phc: String) -> Result<bool, Problem> {
    on_a_thread(app, move || {
        PasswordHash::new(&phc)
            .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

async fn on_a_thread<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let _permit = app
        .hashing
        .acquire()
        .await
        .map_err(|_| Problem::Unavailable)?;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::Unavailable)
}
