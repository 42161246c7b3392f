//! Janus (Debian's package `janus`) as the peer of a comparison: the process, with a configuration
//! of its own, and as much of its HTTP API as the benches need.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long it may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where packages put it.
const PROGRAM: &str = "/usr/bin/janus";

/// A running Janus with one session.
pub(crate) struct Janus {
    child: Child,
    folder: PathBuf,
    agent: ureq::Agent,
    /// Its API, then the session's.
    url: String,
    requests: u32,
}

/// Its answer to a message: what the plugin says, and a description if there is one.
pub(crate) struct Answer {
    pub(crate) said: Value,
    pub(crate) sdp: Option<String>,
}

impl Janus {
    /// Starts it with the plugin, media at `at`. Says why, where it is not installed.
    pub(crate) fn start(plugin: &str, at: IpAddr) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!(
                "skipped: {PROGRAM} not found (apt-get install --no-install-recommends janus)"
            );
            return None;
        }
        let probe = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = probe.local_addr().expect("it is bound").port();
        drop(probe);
        let folder = std::env::temp_dir().join(format!("palabre-janus-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for its configuration");
        let others = |kind: &str, wanted: &str| {
            let folder = Path::new("/usr/lib/x86_64-linux-gnu/janus").join(kind);
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
            let unwanted = names.filter(|name| name.ends_with(".so") && !name.contains(wanted));
            unwanted.collect::<Vec<_>>().join(",")
        };
        let main = format!(
            "general: {{ debug_level = 2\n session_timeout = 0\n }}\n\
             media: {{ ipv6 = false\n rtp_port_range = \"40000-49999\"\n }}\n\
             nat: {{ ice_lite = true\n ice_enforce_list = \"{at}\"\n }}\n\
             plugins: {{ disable = \"{}\" }}\ntransports: {{ disable = \"{}\" }}\n",
            others("plugins", plugin),
            others("transports", "libjanus_http"),
        );
        let http = format!(
            "general: {{ json = \"compact\"\n base_path = \"/janus\"\n http = true\n port = {port}\n \
             ip = \"127.0.0.1\"\n https = false\n }}\nadmin: {{ admin_http = false }}\n"
        );
        let bridge =
            format!("general: {{ local_ip = \"{at}\"\n rtp_port_range = \"50000-59999\"\n }}\n");
        for (name, text) in [
            ("janus.jcfg", main.as_str()),
            ("janus.transport.http.jcfg", &http),
            ("janus.plugin.audiobridge.jcfg", &bridge),
            ("janus.plugin.videoroom.jcfg", "general: { }\n"),
        ] {
            fs::write(folder.join(name), text).expect("a file can be written");
        }
        let child = Command::new(PROGRAM)
            .arg("-F")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut janus = Self {
            child,
            folder,
            agent,
            url: format!("http://127.0.0.1:{port}/janus"),
            requests: 0,
        };
        let give_up = Instant::now() + PATIENCE;
        let session = loop {
            if let Some(answer) = janus.post("", json!({"janus": "create"})) {
                break answer["data"]["id"].as_u64().expect("a session");
            }
            assert!(Instant::now() < give_up, "janus does not start");
            std::thread::sleep(Duration::from_millis(50));
        };
        janus.url = format!("{}/{session}", janus.url);
        Some(janus)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A handle of a plugin.
    pub(crate) fn attach(&mut self, plugin: &str) -> u64 {
        let answer = self
            .post(
                "",
                json!({"janus": "attach", "plugin": format!("janus.plugin.{plugin}")}),
            )
            .expect("janus answers");
        answer["data"]["id"]
            .as_u64()
            .unwrap_or_else(|| panic!("a handle, not {answer}"))
    }

    /// Sends a message to a handle and waits for what the plugin answers.
    pub(crate) fn message(&mut self, handle: u64, body: Value, jsep: Option<Value>) -> Answer {
        let mut request = json!({"janus": "message", "body": body});
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        let mut answer = self
            .post(&format!("/{handle}"), request)
            .expect("janus answers");
        let give_up = Instant::now() + PATIENCE;
        let transaction = answer["transaction"].clone();
        // An acknowledgement; the answer comes as an event, among those of others.
        while answer["janus"] == "ack"
            || answer["transaction"] != transaction
            || answer["sender"] != handle && answer["janus"] == "event"
        {
            assert!(Instant::now() < give_up, "janus does not answer: {answer}");
            answer = self.event();
        }
        let said = answer["plugindata"]["data"].clone();
        assert!(said["error"].is_null() && !said.is_null(), "{answer}");
        Answer {
            said,
            sdp: answer["jsep"]["sdp"].as_str().map(str::to_owned),
        }
    }

    fn event(&self) -> Value {
        let mut response = self
            .agent
            .get(format!("{}?maxev=1", self.url))
            .call()
            .expect("janus answers");
        let text = response.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).expect("JSON")
    }

    fn post(&mut self, path: &str, mut body: Value) -> Option<Value> {
        self.requests += 1;
        body["transaction"] = Value::String(self.requests.to_string());
        let url = format!("{}{path}", self.url);
        let mut response = self.agent.post(url).send(body.to_string()).ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
