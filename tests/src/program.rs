//! The product itself, started as a stranger would start it.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The administrator's.
const PASSWORD: &str = "une phrase de passe assez longue";

/// A running `palabre`.
pub struct Program {
    child: Child,
    folder: PathBuf,
    options: Vec<(String, String)>,
    /// Where the page is, without a trailing slash.
    pub url: String,
    /// What the program printed as one-time claim code, if it did.
    pub claim_code: Option<String>,
    /// What it printed until it was ready, line by line.
    pub said: Vec<String>,
    cookie: Option<String>,
}

/// Path of the program: `PALABRE_BIN`, or beside this test's own executable, where `cargo test` from
/// the root puts it (the program has tests of its own, so cargo builds it first).
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let binary = expected();
    assert!(
        binary.exists(),
        "{} is not built: run `cargo test` from the root, or `cargo build --bin palabre` first",
        binary.display()
    );
    binary
}

/// Where [`binary`] looks.
///
/// # Panics
/// When this process does not know its own path.
#[must_use]
pub fn expected() -> PathBuf {
    if let Some(configured) = std::env::var_os("PALABRE_BIN") {
        return PathBuf::from(configured);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    folder.join("palabre")
}

impl Program {
    /// Starts it on loopback with an empty data folder and environment overrides.
    ///
    /// # Panics
    /// When it does not become ready within 30 s.
    #[must_use]
    pub fn start(options: &[(&str, &str)]) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("palabre-e2e-{}-{number}", std::process::id()));
        Self::start_in(&folder, options)
    }

    /// [`Self::start`] with this data folder, which is removed at the end.
    ///
    /// # Panics
    /// When it does not become ready within 30 s.
    #[must_use]
    pub fn start_in(folder: &Path, options: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(folder).expect("a data folder");
        let options: Vec<(String, String)> = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let (child, url, said) = launch(folder, &options);
        let claim_code = said.iter().find_map(|line| {
            let found = line.trim().strip_prefix("Claim code ")?;
            found.split_whitespace().next().map(str::to_owned)
        });
        Self {
            child,
            folder: folder.to_owned(),
            options,
            url,
            claim_code,
            said,
            cookie: None,
        }
    }

    /// kill -9, then a start on the same data folder.
    pub fn kill_and_restart(&mut self) {
        self.kill_and_restart_after(|_| ());
    }

    /// kill -9, something that happens to the data folder, then a start on it.
    pub fn kill_and_restart_after(&mut self, happens: impl FnOnce(&Path)) {
        self.child.kill().expect("the program runs");
        let _ = self.child.wait();
        happens(&self.folder);
        let (child, url, said) = launch(&self.folder, &self.options);
        self.child = child;
        self.url = url;
        self.said = said;
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps its database.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One HTTP request with the administrator's session; status and JSON body.
    ///
    /// # Panics
    /// When the program does not answer at all.
    pub fn request(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("origin", &self.url);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(text).expect("a request");
        let mut response = agent
            .run(request)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("an ASCII cookie");
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    /// One HTTP request with the administrator's session, of whatever headers, and body where the
    /// method has one; status, headers and body as they come.
    ///
    /// # Panics
    /// When the program does not answer at all.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, ureq::http::HeaderMap, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("origin", &self.url);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // The others carry none.
        let has_body = matches!(method, "POST" | "PUT" | "PATCH");
        let body = if has_body { body } else { b"" };
        let request = request.body(body).expect("a request");
        let mut response = agent
            .run(request)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let body = response.body_mut().read_to_vec().unwrap_or_default();
        let (parts, _) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body)
    }

    /// The administrator's session, as the header `Cookie` says it.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// A request that must succeed.
    ///
    /// # Panics
    /// With the answer when its status is not 2xx.
    pub fn ok(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.request(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Sets the administrator's password with the printed claim code and signs in.
    pub fn claim(&mut self) {
        let code = self
            .claim_code
            .clone()
            .expect("a first start prints a claim code");
        self.ok(
            "POST",
            "/api/v1/claim",
            Some(&json!({"code": code, "password": PASSWORD})),
        );
    }

    /// Signs in anew, in place of the session there is.
    pub fn sign_in(&mut self) {
        self.cookie = None;
        self.ok(
            "POST",
            "/api/v1/session",
            Some(&json!({"password": PASSWORD})),
        );
    }

    /// Creates a room: its description, with `code`, `slug` and `id`.
    pub fn create_room(&mut self, name: &str) -> Value {
        self.ok("POST", "/api/v1/rooms", Some(&json!({"name": name})))
    }

    /// What the page does with a code: an address and a token for LiveKit clients.
    pub fn join(&mut self, code: &str, name: &str) -> Value {
        self.ok(
            "POST",
            "/api/v1/join",
            Some(&json!({"code": code, "name": name})),
        )
    }

    /// The Prometheus page.
    pub fn metrics(&mut self) -> String {
        match self.request("GET", "/metrics", None).1 {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

fn launch(folder: &Path, options: &[(String, String)]) -> (Child, String, Vec<String>) {
    let binary = binary();
    let mut command = Command::new(&binary);
    command
        .env("PALABRE__STORAGE__FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for (key, value) in options {
        command.env(key, value);
    }
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
    let stdout = child.stdout.take().expect("stdout is piped");
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut url = None;
    let mut said = Vec::new();
    while url.is_none()
        || !said
            .iter()
            .any(|l: &String| l.starts_with("Palabre is ready"))
    {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("palabre did not become ready; it said {said:?}"));
        if let Some(found) = line.trim().strip_prefix("Page ") {
            url = Some(found.trim().trim_end_matches('/').to_owned());
        }
        said.push(line);
    }
    (child, url.expect("the loop ends with an address"), said)
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
