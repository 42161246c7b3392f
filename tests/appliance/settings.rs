//! Network, time, certificate, storage and the support bundle.

use serde_json::{Value, json};

use palabre_tests::network::{HOST, isolated};

use super::{Appliance, is_problem};

#[test]
fn the_machine_is_set_up_through_the_api() {
    let mut appliance = Appliance::start();
    let Appliance { bench, program, .. } = &mut appliance;
    let at = |path: &str| format!("/api/v1/appliance/{path}");

    let fixed = json!({"address": "192.0.2.10/24", "gateway": "192.0.2.1", "dns": ["192.0.2.53"]});
    for (wrong, status, code) in [
        (json!({"address": "192.0.2.10"}), 400, "body_invalid"),
        (json!({"shell": true}), 400, "body_invalid"),
        (json!({"gateway": "192.0.2.1"}), 409, "network_invalid"),
    ] {
        let refused = program.request("PUT", &at("network"), Some(&wrong));
        is_problem(refused, status, code);
    }
    program.ok("PUT", &at("network"), Some(&fixed));
    let state = program.ok("GET", &at("network"), None);
    assert_eq!(state["tried"]["network"]["address"], "192.0.2.10/24");
    assert_eq!(state["kept"]["address"], Value::Null);
    // Through the address before, nobody has shown that the new one works.
    let refused = program.request("POST", &at("network/confirm"), None);
    assert_eq!(refused.1["cause"], "192.0.2.10");
    is_problem(refused, 409, "network_not_reached");
    let state = program.ok("GET", &at("network"), None);
    assert_eq!(state["kept"]["address"], Value::Null);
    program.ok("POST", &at("network/revert"), None);
    // Nobody knows beforehand which address DHCP gives.
    let given = json!({"dhcp": true, "dns": ["192.0.2.53"]});
    program.ok("PUT", &at("network"), Some(&given));
    program.ok("POST", &at("network/confirm"), None);
    let state = program.ok("GET", &at("network"), None);
    assert_eq!(state["kept"]["dns"], json!(["192.0.2.53"]));
    let late = program.request("POST", &at("network/confirm"), None);
    is_problem(late, 409, "network_not_tried");

    let time = json!({"ntp": ["ntp.example.org"], "zone": "Europe/Paris"});
    program.ok("PUT", &at("time"), Some(&time));
    assert_eq!(program.ok("GET", &at("time"), None)["kept"], time);
    let nowhere = json!({"ntp": [], "zone": "Europe/Atlantis"});
    let refused = program.request("PUT", &at("time"), Some(&nowhere));
    is_problem(refused, 400, "body_invalid");

    program.ok("POST", &at("certificate/self-signed"), None);
    let shown = program.ok("GET", &at("certificate"), None);
    assert_eq!(shown["certificate"]["subject"], "CN=palabre-test");
    let chain = std::fs::read_to_string(bench.at("var/tls/certificate.pem")).unwrap();
    let wrong = json!({"chain": chain, "key": chain});
    let refused = program.request("PUT", &at("certificate"), Some(&wrong));
    is_problem(refused, 409, "certificate_key");
    let long = json!({"chain": "x".repeat(70_000), "key": "x".repeat(70_000)});
    let refused = program.request("PUT", &at("certificate"), Some(&long));
    is_problem(refused, 413, "body_too_large");

    let storage = program.ok("GET", &at("storage"), None);
    assert!(storage["bytes_free"].as_u64().unwrap() > 0);
    bench.tool("journalctl", "true");
    let (status, headers, body) = program.send("GET", &at("support"), &[], b"");
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/gzip");
    assert_eq!(body[..2], [0x1f, 0x8b]);
}

#[test]
fn a_fixed_address_is_kept_by_whoever_comes_to_it() {
    if !isolated() {
        return;
    }
    // Of both kinds, as on the box.
    let mut appliance = Appliance::start_at("[::]:0");
    let program = &mut appliance.program;
    let at = |path: &str| format!("/api/v1/appliance/{path}");
    let port = program.url.rsplit(':').next().unwrap().to_owned();
    let fixed = json!({"address": format!("{HOST}/24"), "dns": []});
    for elsewhere in ["127.0.0.1", "[::1]"] {
        program.url = format!("http://{elsewhere}:{port}");
        program.ok("PUT", &at("network"), Some(&fixed));
        let refused = program.request("POST", &at("network/confirm"), None);
        is_problem(refused, 409, "network_not_reached");
        program.ok("POST", &at("network/revert"), None);
    }
    program.ok("PUT", &at("network"), Some(&fixed));
    program.url = format!("http://{HOST}:{port}");
    program.ok("POST", &at("network/confirm"), None);
    let state = program.ok("GET", &at("network"), None);
    assert_eq!(state["kept"]["address"], fixed["address"]);
}
