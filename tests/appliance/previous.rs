//! The way back that is asked for, told of and called off.

use serde_json::{Value, json};

use super::Appliance;

#[test]
fn a_way_back_is_told_until_it_is_called_off() {
    let mut appliance = Appliance::start();
    let upload = appliance.upload(&appliance.bench.packed(2));
    assert_eq!(appliance.install(&upload)["phase"], "done");
    appliance.bench.runs(2);
    appliance.bench.good(&["mark-good"]);
    let path = "/api/v1/appliance/previous";
    let told = |state: &Value| {
        let slot = |number: usize| {
            (
                state["slots"][number]["starts_next"].clone(),
                state["slots"][number]["code"].clone(),
            )
        };
        let [one, two] = [slot(0), slot(1)];
        (
            json!([state["starts_once"], state["starts_next"]]),
            one,
            two,
        )
    };
    let before = appliance.show();
    let newest = (
        json!([null, null]),
        (json!(false), json!("slot_older")),
        (json!(true), json!("slot_newest")),
    );
    assert_eq!(told(&before), newest);
    let asked = (
        json!([1, 1]),
        (json!(true), json!("slot_chosen")),
        (json!(false), json!("slot_other_chosen")),
    );
    for _ in 0..2 {
        appliance.program.ok("POST", path, None);
        assert_eq!(told(&appliance.show()), asked);
    }
    // It is the firmware that remembers.
    appliance.program.kill_and_restart();
    assert_eq!(told(&appliance.show()), asked);
    appliance.program.ok("DELETE", path, None);
    assert_eq!(told(&appliance.show()), newest);
    let history = appliance
        .program
        .ok("GET", "/api/v1/appliance/history", None);
    assert_eq!(history["events"][0]["what"], "stays");
    assert_eq!(history["events"][0]["version"], 2);
    // What was asked for is of no interest once a newer version is installed.
    appliance.program.ok("POST", path, None);
    let upload = appliance.upload(&appliance.bench.packed(3));
    assert_eq!(appliance.install(&upload)["phase"], "done");
    let after = appliance.show();
    assert_eq!(
        (&after["starts_once"], &after["starts_next"]),
        (&Value::Null, &json!(3))
    );
}
