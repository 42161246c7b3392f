//! What the box says in English, as the API tells it in French.

use serde_json::{Value, json};

use super::Appliance;

fn french(appliance: &mut Appliance, path: &str) -> Value {
    let headers = [("Accept-Language", "fr")];
    let (status, _, body) = appliance.program.send("GET", path, &headers, b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn why_a_trial_failed_and_why_a_slot_starts_next_are_told_in_french() {
    let mut appliance = Appliance::start();
    let shown_at = "/api/v1/appliance";
    let why = "call: the call failed: mixer-sound: silence";
    appliance.bench.good(&["mark-bad", why]);
    let failure = &french(&mut appliance, shown_at)["last_failure"];
    assert_eq!(failure["code"], "trial_mixer_sound");
    assert_eq!(failure["cause"], why);
    let told = "Pendant l'appel d'essai, le téléphone n'a pas entendu l'invité.";
    assert_eq!(failure["why"], told);
    appliance.bench.good(&["mark-bad", "somebody said so"]);
    let newest = &french(&mut appliance, &format!("{shown_at}/history"))["events"][0];
    assert_eq!(
        (&newest["code"], &newest["cause"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(newest["why"], "somebody said so");

    let slots = |shown: &Value| {
        let slots = shown["slots"].as_array().unwrap().iter();
        let told: Vec<_> = slots
            .map(|slot| json!([slot["code"], slot["why"]]))
            .collect();
        told
    };
    let newest = json!(["slot_newest", "C'est la plus récente qui n'a pas échoué."]);
    let empty = json!(["slot_empty", "Rien n'est installé ici."]);
    assert_eq!(
        slots(&french(&mut appliance, shown_at)),
        [newest.clone(), empty]
    );
    let two = appliance.bench.packed(2);
    let upload = appliance.upload(&two);
    assert_eq!(appliance.install(&upload)["phase"], "done");
    let older = json!(["slot_older", "La version 2 est plus récente."]);
    assert_eq!(slots(&french(&mut appliance, shown_at)), [older, newest]);
}
