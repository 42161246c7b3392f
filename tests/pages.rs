//! The pages as a person meets them, in Chromium: every page is looked at (screenshots in the
//! artefact folder), walked with the keyboard and checked for accessibility.

use palabre_tests::bench::Bench;
use palabre_tests::network::{HOST, isolated};
use palabre_tests::peer::{Peer, write_tone};
use palabre_tests::program::Program;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where screenshots go: `PALABRE_ARTEFACTS`, or `target/artefacts`.
fn artefacts() -> PathBuf {
    let folder = std::env::var_os("PALABRE_ARTEFACTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/artefacts"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder).expect("an artefact folder");
    folder
}

fn look(browser: &mut Peer, name: &str) {
    let path = artefacts().join(format!("{name}.png"));
    browser.call(json!({"do": "screenshot", "path": path}));
}

fn assert_accessible(browser: &mut Peer, page: &str) {
    let violations = browser.call(json!({"do": "axe"}));
    assert_eq!(violations, json!([]), "{page}: {violations:#}");
}

fn click(browser: &mut Peer, selector: &str) {
    browser.call(json!({"do": "click", "selector": selector}));
}

fn fill(browser: &mut Peer, selector: &str, value: &str) {
    browser.call(json!({"do": "fill", "selector": selector, "value": value}));
}

fn seen(browser: &mut Peer, selector: &str) {
    browser.call(json!({"do": "seen", "selector": selector, "timeout": 30_000}));
}

/// # Panics
/// When the page goes on saying this.
fn assert_unsaid(browser: &mut Peer, words: &str) {
    let page = json!({"do": "evaluate", "script": "document.body.innerText"});
    browser.until(&format!("not: {words}"), 10, &page, |page| {
        page["value"]
            .as_str()
            .is_some_and(|said| !said.contains(words))
    });
}

/// # Panics
/// When somebody who works by keyboard does not go on from what this says.
fn assert_goes_on_from(browser: &mut Peer, words: &str) {
    let place = json!({"do": "evaluate", "script": "document.activeElement.innerText"});
    browser.until(&format!("to go on from: {words}"), 10, &place, |place| {
        place["value"].as_str() == Some(words)
    });
}

/// Presses Tab until the button of this name has the focus, and it is seen to have it.
///
/// # Panics
/// When the keyboard does not reach it.
fn walk_to(browser: &mut Peer, label: &str) {
    // More than there are controls on any page.
    const STEPS: usize = 60;
    let focus = json!({
        "do": "evaluate",
        "script": "document.activeElement.matches(':focus-visible') && document.activeElement.getAttribute('aria-label')",
    });
    let mut passed = Vec::new();
    while passed.len() < STEPS {
        browser.call(json!({"do": "press", "key": "Tab"}));
        let at = browser.call(focus.clone())["value"].clone();
        if at == label {
            return;
        }
        passed.push(at);
    }
    panic!("the keyboard does not reach {label:?}, only {passed:?}");
}

/// The administrator's.
const PASSWORD: &str = "une phrase de passe assez longue";

#[test]
fn a_stranger_claims_the_box_creates_a_room_and_is_joined_by_browser_and_telephone() {
    if !isolated() {
        return;
    }
    let tone = std::env::temp_dir().join(format!("palabre-pages-{}.wav", std::process::id()));
    write_tone(&tone, 440);
    let (Some(mut anne), Some(mut bao), Some(mut phone)) = (
        Peer::chromium("anne", Some(&tone)),
        Peer::chromium("bao", Some(&tone)),
        Peer::phone("phone", "pcma", 1_000, HOST),
    ) else {
        return;
    };
    let (media, sip) = (format!("{HOST}:7880"), format!("{HOST}:5060"));
    let program = Program::start(&[
        ("PALABRE__MEDIA__BIND", media.as_str()),
        ("PALABRE__SIP__BIND", sip.as_str()),
        ("PALABRE__HTTP__PHONE_NUMBER", "01 23 45 67 89"),
    ]);
    let home = format!("{}/", program.url);

    // Home, and an unknown code.
    anne.call(json!({"do": "goto", "url": home}));
    seen(&mut anne, "h1");
    look(&mut anne, "01-accueil");
    assert_accessible(&mut anne, "home");
    fill(&mut anne, "input[name=code]", "12345");
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, "text=Il faut neuf chiffres");
    fill(&mut anne, "input[name=code]", "123 456 789");
    anne.call(json!({"do": "press", "key": "Enter"}));
    fill(&mut anne, "input[name=name]", "Anne");
    click(&mut anne, "button[type=submit]");
    seen(&mut anne, "text=Aucune réunion n’a ce code");
    // She sees what she typed.
    seen(&mut anne, "text=123 456 789");
    look(&mut anne, "02-code-inconnu");

    // First run.
    anne.call(json!({"do": "goto", "url": format!("{home}admin")}));
    seen(&mut anne, "input[name=code]");
    look(&mut anne, "03-prise-en-main");
    assert_accessible(&mut anne, "claim");
    let code = program
        .claim_code
        .clone()
        .expect("a first start prints a claim code");
    fill(&mut anne, "input[name=code]", &code);
    fill(&mut anne, "input[name=password]", PASSWORD);
    click(&mut anne, "text=Afficher le mot de passe");
    seen(&mut anne, "input[name=password][type=text]");
    click(&mut anne, "text=Afficher le mot de passe");
    seen(&mut anne, "input[name=password][type=password]");
    click(&mut anne, "button[type=submit]");

    // A room.
    fill(&mut anne, "input[name=room]", "Conseil de quartier");
    click(&mut anne, "text=Créer >> nth=-1");
    seen(&mut anne, ".room-row");
    look(&mut anne, "04-reunions");
    assert_accessible(&mut anne, "rooms");
    let room_code = anne.call(json!({"do": "text", "selector": ".room-code"}))["text"]
        .as_str()
        .expect("a code")
        .replace(' ', "");
    assert_eq!(room_code.len(), 9, "{room_code}");
    anne.call(json!({"do": "viewport", "width": 360, "height": 740}));
    look(&mut anne, "05-reunions-telephone-mobile");
    anne.call(json!({"do": "viewport", "width": 1280, "height": 800}));

    // In by the link.
    click(&mut anne, ".room-row .button.primary");
    fill(&mut anne, "input[name=name]", "Anne Martin");
    seen(&mut anne, "video:not([hidden])");
    look(&mut anne, "06-avant-d-entrer");
    assert_accessible(&mut anne, "prejoin");
    click(&mut anne, "button[type=submit]");
    seen(&mut anne, ".tile");
    look(&mut anne, "07-seule");
    assert_accessible(&mut anne, "room, alone");

    // By the code, in English.
    bao.call(json!({"do": "goto", "url": home}));
    click(&mut bao, "button[aria-label$=English]");
    seen(&mut bao, "text=Join a meeting");
    look(&mut bao, "08-home-english");
    fill(&mut bao, "input[name=code]", &room_code);
    bao.call(json!({"do": "press", "key": "Enter"}));
    fill(&mut bao, "input[name=name]", "Bảo Nguyễn");
    click(&mut bao, "button[type=submit]");

    // By telephone.
    let answer = phone.call(json!({"do": "dial", "uri": format!("sip:{room_code}@{HOST}")}));
    assert_eq!(answer["type"], "CALL_ESTABLISHED", "{answer}");
    for browser in [&mut anne, &mut bao] {
        seen(browser, ".tile >> nth=2");
        seen(browser, ".tile:not(:first-child) video");
        seen(browser, ".tile-phone");
        // The telephone plays a steady tone: it is seen to speak.
        seen(browser, ".tile.speaking");
    }
    look(&mut anne, "09-a-trois");
    assert_accessible(&mut anne, "room");
    click(&mut anne, "button[aria-label^=Participants]");
    look(&mut anne, "10-participants");
    click(&mut anne, "button[aria-label=Inviter]");
    seen(&mut anne, "text=01 23 45 67 89");
    look(&mut anne, "11-inviter");
    assert_accessible(&mut anne, "room with its panel");

    // The microphone, by keyboard: Bao sees it.
    walk_to(&mut anne, "Couper le microphone");
    anne.call(json!({"do": "press", "key": "Space"}));
    seen(&mut bao, ".tile:has-text('Anne Martin') .tile-muted");
    look(&mut bao, "12-muted-english");

    // Leaving.
    click(&mut anne, "button[aria-label=Quitter]");
    seen(&mut anne, "text=Vous avez quitté la réunion");
    look(&mut anne, "13-apres");
    assert_accessible(&mut anne, "left");
    bao.until(
        "two tiles",
        20,
        &json!({"do": "evaluate", "script": "document.querySelectorAll('.tile').length"}),
        |count| count["value"] == 2,
    );

    // Out of the administration, and in again.
    anne.call(json!({"do": "goto", "url": home}));
    click(&mut anne, "text=Se déconnecter");
    seen(&mut anne, "text=Connectez-vous pour créer une réunion");
    anne.call(json!({"do": "goto", "url": format!("{home}admin")}));
    seen(&mut anne, "input[name=password]");
    look(&mut anne, "15-se-connecter");
    assert_accessible(&mut anne, "sign in");
    fill(
        &mut anne,
        "input[name=password]",
        "une autre phrase de passe",
    );
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, ".react-aria-FieldError");
    look(&mut anne, "16-mot-de-passe-faux");
    assert_accessible(&mut anne, "sign in, refused");
    fill(&mut anne, "input[name=password]", PASSWORD);
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, ".room-row:has-text('Conseil de quartier')");

    // Another password, and the old one opens nothing any more.
    const OTHER: &str = "une phrase que personne ne lui a dite";
    click(&mut anne, "text=Mot de passe");
    fill(&mut anne, "input[name=old]", OTHER);
    fill(&mut anne, "input[name=password]", OTHER);
    click(&mut anne, "text=Changer le mot de passe");
    seen(&mut anne, "text=Le mot de passe n’est pas le bon");
    look(&mut anne, "27-autre-mot-de-passe");
    assert_accessible(&mut anne, "password, refused");
    fill(&mut anne, "input[name=old]", PASSWORD);
    click(&mut anne, "text=Changer le mot de passe");
    seen(&mut anne, "text=Le mot de passe est changé");
    assert_accessible(&mut anne, "password, changed");
    click(&mut anne, "text=Se connecter");
    fill(&mut anne, "input[name=password]", PASSWORD);
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, ".react-aria-FieldError");
    fill(&mut anne, "input[name=password]", OTHER);
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, ".room-row:has-text('Conseil de quartier')");
    std::fs::remove_file(&tone).expect("the tone file is there");
}

/// In by the code, with the browser's language left as it is (French).
fn enters(browser: &mut Peer, program: &Program, code: &str, name: &str) {
    browser.call(json!({"do": "goto", "url": format!("{}/", program.url)}));
    fill(browser, "input[name=code]", code);
    browser.call(json!({"do": "press", "key": "Enter"}));
    fill(browser, "input[name=name]", name);
    click(browser, "button[type=submit]");
    seen(browser, ".tile");
}

/// Whether someone of this name is there with a microphone that is published, and open or not.
fn has_microphone(participants: &Value, name: &str, open: bool) -> bool {
    const AUDIO: u64 = 1;
    let all = participants.as_array().into_iter().flatten();
    let mut tracks = all
        .filter(|p| p["name"] == name)
        .flat_map(|p| p["tracks"].as_array().into_iter().flatten());
    tracks.any(|track| track["kind"] == AUDIO && track["muted"] == !open)
}

#[test]
fn the_page_comes_back_by_itself_and_a_shut_microphone_stays_shut() {
    if !isolated() {
        return;
    }
    let tone = std::env::temp_dir().join(format!("palabre-back-{}.wav", std::process::id()));
    write_tone(&tone, 440);
    let (Some(mut anne), Some(mut bao), Some(mut witness)) = (
        Peer::chromium("anne", Some(&tone)),
        Peer::chromium("bao", Some(&tone)),
        Peer::sdk("witness"),
    ) else {
        return;
    };
    let media = format!("{HOST}:7880");
    let mut program = Program::start(&[
        ("PALABRE__MEDIA__BIND", media.as_str()),
        ("PALABRE__SIP__ENABLED", "false"),
    ]);
    program.claim();
    let room = program.create_room("Durable");
    let code = room["code"].as_str().expect("a code").to_owned();
    enters(&mut anne, &program, &code, "Anne");
    enters(&mut bao, &program, &code, "Bao");
    let anne_open = ".tile:has-text('Anne'):not(:has(.tile-muted))";
    let anne_shut = ".tile:has-text('Anne') .tile-muted";
    seen(&mut bao, anne_open);
    click(&mut anne, "button[aria-label='Couper le microphone']");
    seen(&mut bao, anne_shut);

    program.kill_and_restart();
    // Whoever is in the room from now on has come back: this program has never seen anybody.
    let ticket = program.join(&code, "Témoin");
    witness.call(json!({"do": "connect", "url": ticket["url"], "token": ticket["token"]}));
    let participants = json!({"do": "participants"});
    witness.until("both are back", 90, &participants, |all| {
        let named = |name| {
            all.as_array()
                .is_some_and(|all| all.iter().any(|p| p["name"] == name))
        };
        named("Anne") && has_microphone(all, "Bao", true)
    });
    for browser in [&mut anne, &mut bao] {
        seen(browser, ".tile:has-text('Témoin')");
        browser.until(
            "no banner",
            30,
            &json!({"do": "evaluate", "script": "document.querySelectorAll('.banner').length"}),
            |count| count["value"] == 0,
        );
    }
    look(&mut anne, "14-de-retour");
    seen(&mut anne, "button[aria-label='Activer le microphone']");
    seen(&mut bao, anne_shut);
    let all = witness.call(participants.clone());
    assert!(!has_microphone(&all, "Anne", true), "{all}");

    // By her own hand it opens again.
    click(&mut anne, "button[aria-label='Activer le microphone']");
    witness.until("Anne is heard", 30, &participants, |all| {
        has_microphone(all, "Anne", true)
    });
    seen(&mut bao, anne_open);
    std::fs::remove_file(&tone).expect("the tone file is there");
}

/// Waits until the box has run this of the system's programs.
fn until_said(bench: &Bench, line: &str) {
    until(line, || bench.said().iter().any(|said| said == line));
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not yet: {what}");
        std::thread::yield_now();
    }
}

fn choose(browser: &mut Peer, path: &str) {
    browser.call(json!({"do": "choose", "selector": "input[type=file]", "path": path}));
}

/// The real program and the real service, on a box made of files: nothing restarts but what is written down.
#[test]
fn the_box_is_updated_and_set_up_from_its_page() {
    if !isolated() {
        return;
    }
    let Some(mut anne) = Peer::chromium("anne", None) else {
        return;
    };
    let bench = Bench::new();
    let (socket, image) = (bench.text("box.sock"), bench.text("image.json"));
    // At the address before and at the one that is tried.
    let mut program = Program::start(&[
        ("PALABRE__HTTP__BIND", "0.0.0.0:7880"),
        ("PALABRE__SIP__ENABLED", "false"),
        ("PALABRE__APPLIANCE__SOCKET", &socket),
        ("PALABRE__APPLIANCE__IMAGE", &image),
    ]);
    program.url = "http://127.0.0.1:7880".to_owned();
    let _service = bench.serve_for(bench.owner(), &program.folder().join("upload"), &[]);
    program.claim();

    // From the start page, with the password.
    anne.call(json!({"do": "goto", "url": format!("{}/admin/appliance", program.url)}));
    fill(&mut anne, "input[name=password]", PASSWORD);
    anne.call(json!({"do": "press", "key": "Enter"}));
    seen(&mut anne, "text=palabre-test");
    click(&mut anne, "text=Accueil");
    click(&mut anne, "text=Le boîtier");
    seen(&mut anne, "text=Clés de développement");
    seen(&mut anne, ".progress");
    look(&mut anne, "17-boitier");
    assert_accessible(&mut anne, "appliance");

    // An upload that was cut elsewhere goes on here.
    let two = bench.packed(2);
    let bytes = std::fs::read(&two).expect("a bundle");
    let length = bytes.len().to_string();
    let headers = [
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Length", length.as_str()),
        ("Upload-Metadata", "filename Mi5wbGJ1"),
    ];
    let (status, headers, _) = program.send("POST", "/api/v1/appliance/uploads", &headers, b"");
    assert_eq!(status, 201);
    let place = headers["location"].to_str().expect("a path").to_owned();
    let headers = [
        ("Tus-Resumable", "1.0.0"),
        ("Content-Type", "application/offset+octet-stream"),
        ("Upload-Offset", "0"),
    ];
    let half = &bytes[..bytes.len() / 2];
    assert_eq!(program.send("PATCH", &place, &headers, half).0, 204);
    seen(&mut anne, "text=2.plbu est arrivé en partie");
    look(&mut anne, "18-boitier-envoi-interrompu");
    choose(&mut anne, &two);
    seen(&mut anne, "text=La version 2 est installée");
    look(&mut anne, "19-boitier-installe");
    assert_accessible(&mut anne, "appliance, installed");
    assert_eq!(bench.entries(), ["palabre_1.efi", "palabre_2+3-0.efi"]);

    // Planned, cancelled, and now.
    seen(&mut anne, "text=Démarrer la version 2");
    click(&mut anne, "text=Dans une plage horaire");
    fill(&mut anne, "input[name=from]", "23:30");
    click(&mut anne, "text=Programmer");
    seen(&mut anne, "text=Redémarrage prévu entre 23:30 et 05:00");
    look(&mut anne, "20-boitier-programme");
    assert_accessible(&mut anne, "appliance, planned");
    click(&mut anne, "text=Annuler le redémarrage prévu");
    seen(&mut anne, "text=Le redémarrage est annulé.");
    assert_unsaid(&mut anne, "Redémarrage prévu");
    assert_goes_on_from(&mut anne, "Le redémarrage est annulé.");
    // Planned again by somebody else: nothing says any more that it is called off.
    let path = "/api/v1/appliance/restart";
    let night = json!({"when": "window", "from": "23:30", "to": "05:00"});
    program.ok("PUT", path, Some(&night));
    seen(&mut anne, "text=Redémarrage prévu entre 23:30 et 05:00");
    assert_unsaid(&mut anne, "Le redémarrage est annulé");
    program.ok("DELETE", path, None);
    assert_unsaid(&mut anne, "Redémarrage prévu");
    // Asked while nobody answers, or only the program: nothing was planned, and that stays said once the box is back.
    let lost = "() => Promise.reject(new TypeError('lost'))";
    let silent = "() => Promise.resolve(new Response( \
                  '{\"code\": \"appliance_silent\", \"detail\": \"Le service du boîtier se tait.\"}', \
                  {status: 503, headers: {'content-type': 'application/problem+json'}}))";
    for (answer, said) in [
        (lost, "Le boîtier ne répond pas. Vérifiez"),
        (silent, "Le service du boîtier se tait"),
    ] {
        let away = format!("window.reached = window.fetch; window.fetch = {answer}; 0");
        anne.call(json!({"do": "evaluate", "script": away}));
        seen(&mut anne, "[role=alert]");
        click(&mut anne, "text=Programmer");
        let refusal = format!("section .bad:has-text('{said}')");
        seen(&mut anne, &refusal);
        let back = "window.fetch = window.reached; 0";
        anne.call(json!({"do": "evaluate", "script": back}));
        let alerts = "document.querySelectorAll('[role=alert]').length";
        anne.until(
            "the box is back",
            30,
            &json!({"do": "evaluate", "script": alerts}),
            |count| count["value"] == 0,
        );
        seen(&mut anne, &refusal);
    }
    click(&mut anne, "text=Tout de suite");
    click(&mut anne, "text=Redémarrer maintenant");
    seen(&mut anne, "[role=alertdialog]");
    assert_accessible(&mut anne, "appliance, asked again");
    click(&mut anne, "[role=alertdialog] .danger");
    until_said(&bench, "systemctl --no-block reboot");
    bench.runs(2);
    seen(&mut anne, "text=La version en service est à l’essai");
    bench.good(&["mark-good"]);

    // The way back, and not after all.
    click(&mut anne, "text=Revenir à la version 1");
    click(&mut anne, "[role=alertdialog] .danger");
    seen(&mut anne, "text=Le retour à la version 1 a été demandé");
    seen(&mut anne, "text=Démarrer la version 1");
    seen(
        &mut anne,
        "text=La version 1 démarrera au prochain redémarrage.",
    );
    assert_accessible(&mut anne, "appliance, way back");
    click(&mut anne, "text=Annuler ce retour");
    seen(&mut anne, "text=Le retour est annulé.");
    seen(&mut anne, "text=Revenir à la version 1");
    assert_goes_on_from(&mut anne, "Le retour est annulé.");
    assert_unsaid(&mut anne, "démarrera au prochain redémarrage");
    // And asked for again: nothing says any more that it is called off.
    click(&mut anne, "text=Revenir à la version 1");
    click(&mut anne, "[role=alertdialog] .danger");
    seen(
        &mut anne,
        "text=La version 1 démarrera au prochain redémarrage.",
    );
    seen(&mut anne, "text=Annuler ce retour");
    assert_unsaid(&mut anne, "Le retour est annulé");
    click(&mut anne, "text=Annuler ce retour");
    seen(&mut anne, "text=Revenir à la version 1");

    // A bad one.
    let mut bytes = std::fs::read(bench.packed(3)).expect("a bundle");
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    let changed = bench.text("changed.plbu");
    std::fs::write(&changed, bytes).expect("a file");
    choose(&mut anne, &changed);
    seen(&mut anne, "text=La mise à jour est abîmée");
    look(&mut anne, "21-boitier-refus");
    assert_accessible(&mut anne, "appliance, refused");

    // The network, on trial and kept.
    click(&mut anne, "text=Fixe");
    let new = format!("{HOST}/24");
    fill(&mut anne, "input[name=network-address]", &new);
    fill(&mut anne, "input[name=network-gateway]", "192.0.2.300");
    click(&mut anne, "text=Essayer ces réglages");
    seen(&mut anne, "text=Une valeur saisie n’est pas utilisable");
    fill(&mut anne, "input[name=network-gateway]", "10.77.0.2");
    click(&mut anne, "text=Essayer ces réglages");
    seen(&mut anne, "text=Réglages à l’essai");
    look(&mut anne, "22-boitier-reseau");
    assert_accessible(&mut anne, "appliance, network on trial");
    click(&mut anne, "text=Garder ces réglages");
    seen(&mut anne, "text=n'est pas arrivée à l'adresse à l'essai");
    let there = format!("http://{HOST}:7880/admin/appliance");
    click(&mut anne, &format!("a[href='{there}']"));
    fill(&mut anne, "input[name=password]", PASSWORD);
    anne.call(json!({"do": "press", "key": "Enter"}));
    click(&mut anne, "text=Garder ces réglages");
    let kept = bench.at("var/box.toml");
    until("the network is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept.contains(HOST))
    });

    // The clock and the certificate.
    fill(&mut anne, "input[name=zone]", "Europe/Paris");
    click(&mut anne, "text=Enregistrer");
    seen(&mut anne, "text=C’est enregistré");
    click(&mut anne, "text=Créer un certificat autosigné");
    click(&mut anne, "[role=alertdialog] .danger");
    seen(&mut anne, "text=Le boîtier a signé ce certificat lui-même");
    assert_accessible(&mut anne, "appliance, certificate");

    // The support bundle is there to be taken.
    let script = "fetch('/api/v1/appliance/support').then(r => r.headers.get('content-type'))";
    let kind = anne.call(json!({"do": "evaluate", "script": script}));
    assert_eq!(kind["value"], "application/gzip");

    // The end of the data wants the name of the box.
    click(&mut anne, "text=Remettre à neuf");
    seen(&mut anne, "[role=alertdialog] .danger[data-disabled]");
    assert_accessible(&mut anne, "appliance, end of the data");
    fill(&mut anne, "input[name=confirm]", "palabre-test");
    look(&mut anne, "23-boitier-remise-a-neuf");
    let before = bench.said().len();
    click(&mut anne, "[role=alertdialog] .danger");
    // Words that stand there only once the box has answered.
    seen(&mut anne, "text=Cette page revient d’elle-même");
    assert_eq!(bench.said().len(), before + 1);

    // In English, and on a small screen.
    click(&mut anne, "button[aria-label$=English]");
    seen(&mut anne, "text=Download the support bundle");
    look(&mut anne, "24-appliance-english");
    assert_accessible(&mut anne, "appliance, English");
    anne.call(json!({"do": "viewport", "width": 360, "height": 740}));
    look(&mut anne, "25-appliance-small");
    assert_accessible(&mut anne, "appliance, small screen");
}

#[test]
fn people_in_a_meeting_are_told_before_the_box_restarts() {
    if !isolated() {
        return;
    }
    let tone = std::env::temp_dir().join(format!("palabre-told-{}.wav", std::process::id()));
    write_tone(&tone, 440);
    let Some(mut anne) = Peer::chromium("anne", Some(&tone)) else {
        return;
    };
    let bench = Bench::new();
    let (socket, image) = (bench.text("box.sock"), bench.text("image.json"));
    let media = format!("{HOST}:7880");
    let mut program = Program::start(&[
        ("PALABRE__MEDIA__BIND", media.as_str()),
        ("PALABRE__SIP__ENABLED", "false"),
        ("PALABRE__APPLIANCE__SOCKET", &socket),
        ("PALABRE__APPLIANCE__IMAGE", &image),
    ]);
    let _service = bench.serve_for(bench.owner(), &program.folder().join("upload"), &[]);
    program.claim();
    let room = program.create_room("Conseil");
    enters(
        &mut anne,
        &program,
        room["code"].as_str().expect("a code"),
        "Anne",
    );
    // Nobody can be told before the connection is there.
    seen(&mut anne, ".tile:has-text('Anne'):not(:has(.tile-muted))");

    let path = "/api/v1/appliance/restart";
    let now = json!({"when": "now"});
    program.ok("PUT", path, Some(&now));
    let banner = ".banner:has-text('Le boîtier redémarre dans 30 secondes')";
    seen(&mut anne, banner);
    look(&mut anne, "26-redemarrage-annonce");
    assert_accessible(&mut anne, "room, restart announced");
    program.ok("DELETE", path, None);
    let banners =
        json!({"do": "evaluate", "script": "document.querySelectorAll('.banner').length"});
    anne.until("it is called off", 30, &banners, |count| {
        count["value"] == 0
    });
    assert!(bench.said().is_empty());

    program.ok("PUT", path, Some(&now));
    seen(&mut anne, banner);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while bench.said().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it never restarted");
        std::thread::yield_now();
    }
    assert_eq!(bench.said()[0], "systemctl --no-block reboot");
    let (status, problem) = program.request("DELETE", path, None);
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("restarting")),
        "too late to call it off: {problem}"
    );
    std::fs::remove_file(&tone).expect("the tone file is there");
}
