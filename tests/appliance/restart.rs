//! The restart that waits: for people to leave, or to have been told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Appliance, is_problem};

#[test]
fn a_planned_restart_outlives_a_kill_and_waits_for_the_last_to_leave() {
    let mut appliance = Appliance::start();
    let path = "/api/v1/appliance/restart";
    let room = appliance.program.create_room("Conseil");
    let code = room["code"].as_str().unwrap().to_owned();
    // Somebody is in a room.
    let ticket = appliance.program.join(&code, "Camille");
    let mut guest = Guest::enters(&appliance.program.url, &ticket);
    for wrong in [
        json!({"when": "window"}),
        json!({"when": "window", "from": "22:00", "to": "22:00"}),
        json!({"when": "window", "from": "22h", "to": "05:00"}),
    ] {
        let refused = appliance.program.request("PUT", path, Some(&wrong));
        is_problem(refused, 422, "field_invalid");
    }
    let window = json!({"when": "window", "from": "22:00", "to": "05:00", "force": true});
    appliance.program.ok("PUT", path, Some(&window));
    appliance.program.kill_and_restart();
    assert_eq!(appliance.program.ok("GET", path, None)["restart"], window);
    appliance.program.ok("DELETE", path, None);
    let none = appliance.program.ok("GET", path, None);
    assert_eq!(none["restart"], Value::Null);

    let ticket = appliance.program.join(&code, "Camille");
    guest = Guest::enters_after(guest, &appliance.program.url, &ticket);
    let idle = json!({"when": "idle"});
    appliance.program.ok("PUT", path, Some(&idle));
    assert_eq!(appliance.show()["restart"]["when"], "idle");
    assert_eq!(appliance.show()["participants"], 1);
    guest.stays_for(Duration::from_secs(12));
    assert!(appliance.bench.said().is_empty(), "somebody is in a room");
    drop(guest);
    appliance.until_said("systemctl --no-block reboot", Duration::from_secs(120));
}

#[test]
fn a_restart_at_once_waits_until_people_are_told_and_can_be_called_off() {
    let mut appliance = Appliance::start();
    let path = "/api/v1/appliance/restart";
    let room = appliance.program.create_room("Conseil");
    let code = room["code"].as_str().unwrap().to_owned();
    let ticket = appliance.program.join(&code, "Camille");
    let mut guest = Guest::enters(&appliance.program.url, &ticket);
    let now = json!({"when": "now"});
    let planned = appliance.program.ok("PUT", path, Some(&now));
    assert_eq!(planned["restart"]["when"], "now");
    guest.stays_for(Duration::from_secs(1));
    appliance.program.ok("DELETE", path, None);
    guest.stays_for(Duration::from_secs(8));
    assert!(appliance.bench.said().is_empty(), "it was called off");
    let before = Instant::now();
    appliance.program.ok("PUT", path, Some(&now));
    appliance.until_said("systemctl --no-block reboot", Duration::from_secs(60));
    assert!(before.elapsed() >= Duration::from_secs(4));
    // What was planned is done.
    let deadline = Instant::now() + Duration::from_secs(20);
    while appliance.program.ok("GET", path, None)["restart"] != Value::Null {
        assert!(Instant::now() < deadline, "it is planned still");
    }
}

#[test]
fn an_installation_is_not_cut_by_a_restart_at_once() {
    let mut appliance = Appliance::start();
    let path = "/api/v1/appliance/restart";
    let room = appliance.program.create_room("Conseil");
    let code = room["code"].as_str().unwrap().to_owned();
    let two = appliance.bench.packed(2);
    let upload = appliance.upload(&two);
    // Somebody else writes to the disk: the installation waits for them.
    let disk = std::fs::File::open(appliance.bench.at("disk")).unwrap();
    disk.lock().unwrap();
    let asked = json!({"upload": upload});
    let installation = "/api/v1/appliance/install";
    appliance.program.ok("POST", installation, Some(&asked));
    let now = json!({"when": "now"});
    let refused = appliance.program.request("PUT", path, Some(&now));
    is_problem(refused, 409, "installing");
    let ticket = appliance.program.join(&code, "Camille");
    let _guest = Guest::enters(&appliance.program.url, &ticket);
    let refused = appliance.program.request("PUT", path, Some(&now));
    is_problem(refused, 409, "installing");
    drop(disk);
    assert!(appliance.bench.said().is_empty());
}

/// Somebody in a room: an open signal connection, by hand.
struct Guest(TcpStream);

impl Guest {
    fn enters(url: &str, ticket: &Value) -> Self {
        let host = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let token = ticket["token"].as_str().unwrap();
        let request = format!(
            "GET /rtc?access_token={token}&protocol=15&sdk=js HTTP/1.1\r\nHost: {host}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        Self(stream)
    }

    fn enters_after(before: Self, url: &str, ticket: &Value) -> Self {
        drop(before);
        Self::enters(url, ticket)
    }

    /// Reads what it is told, so long.
    fn stays_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut piece = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.0.set_read_timeout(Some(left)).unwrap();
            if matches!(self.0.read(&mut piece), Ok(0)) {
                panic!("the guest was thrown out");
            }
        }
    }
}
