//! The way into a room, as the page and a caller take it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use palabre_call::{Guest, Phone, Site, Standing};
use palabre_media::transport::Certificate;
use palabre_sip::sip::Codec;
use palabre_tests::program::Program;

/// Nothing on loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A guest of the room with this code.
pub(crate) fn guest(program: &mut Program, code: &str, certificate: &Certificate) -> Guest {
    let way = program.join(code, "bench");
    let text = |key: &str| way[key].as_str().expect("it is text").to_owned();
    let url = text("url");
    let authority = url.trim_start_matches("ws://").trim_end_matches('/');
    let site = Site {
        http: authority.parse().expect("an address"),
        certificate: None,
        media: None,
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let deadline = Instant::now() + PATIENCE;
    Guest::join(&site, &text("token"), certificate, deadline).expect("the program takes this token")
}

/// A telephone in the room with this code.
pub(crate) fn phone(server: SocketAddr, code: &str) -> Phone {
    let mut phone = Phone::dial(server, code, Codec::Pcma, false).expect("loopback has free ports");
    let deadline = Instant::now() + PATIENCE;
    while phone.standing() == Standing::Calling {
        assert!(
            Instant::now() < deadline,
            "the program does not take the call"
        );
        std::thread::sleep(Duration::from_millis(2));
        phone.run(Instant::now());
    }
    assert_eq!(phone.standing(), Standing::Talking);
    phone
}
