//! Which certificates are served, how they are renewed, and what is refused.

use super::*;

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_connects_next() {
    let (old, new) = (self_signed(), self_signed());
    let (files, server) = served(&old).await;
    let shown = async || {
        let stream = dial(&server, &[&old.der, &new.der], BOTH, &[])
            .await
            .unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let reads = async |outcome: &str| {
        let stream = dial(&server, &[&old.der, &new.der], BOTH, &[])
            .await
            .unwrap();
        let page = exchange(stream, "GET", "/metrics", &[("Host", HOST)], b"").await;
        let name = format!("palabre_http_certificate_reads_total{{outcome=\"{outcome}\"}} ");
        let line = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    };
    assert_eq!(shown().await, old.der);
    let mut staying = dial(&server, &[&old.der], BOTH, &[]).await.unwrap();
    // The one file is there before the other.
    std::fs::write(files.key(), &new.key).unwrap();
    assert_eq!(shown().await, old.der);
    assert_eq!(shown().await, old.der);
    assert_eq!((reads("refused").await, reads("taken").await), (1, 0));
    // As renewal programs do it: another file takes the name.
    let aside = files.folder.path().join("new.pem");
    std::fs::write(&aside, &new.certificate).unwrap();
    std::fs::rename(&aside, files.certificate()).unwrap();
    assert_eq!(shown().await, new.der);
    assert_eq!((reads("refused").await, reads("taken").await), (1, 1));
    // What was opened before goes on.
    staying
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    staying.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    // A file that goes, or is spoiled, takes nothing away.
    std::fs::remove_file(files.certificate()).unwrap();
    assert_eq!(shown().await, new.der);
    std::fs::write(files.certificate(), "nonsense").unwrap();
    assert_eq!(shown().await, new.der);
    std::fs::write(files.certificate(), &old.certificate).unwrap();
    std::fs::write(files.key(), &old.key).unwrap();
    assert_eq!(shown().await, old.der);
}

/// Tools that renew often change a link to the file: the name stays, the file is another.
#[tokio::test]
async fn a_renewal_by_links_is_seen() {
    let (old, new) = (self_signed(), self_signed());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (place, pair) in [("1", &old), ("2", &new)] {
        std::fs::create_dir(at(place)).unwrap();
        std::fs::write(at(place).join("c"), &pair.certificate).unwrap();
        std::fs::write(at(place).join("k"), &pair.key).unwrap();
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, at("next")).unwrap();
        std::fs::rename(at("next"), at("live")).unwrap();
    };
    link("1");
    let server = Server::with(AdminConfig {
        tls_certificate: Some(at("live/c")),
        tls_key: Some(at("live/k")),
        ..AdminConfig::default()
    })
    .await;
    assert_eq!(get(&server, &old.der, "/healthz").await.status, 200);
    link("2");
    assert_eq!(get(&server, &new.der, "/healthz").await.status, 200);
}

fn refusal(outcome: Result<Server, ServeError>) -> (TlsError, String) {
    match outcome {
        Err(ServeError::Tls(error)) => {
            let sentence = error.to_string();
            (error, sentence)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

async fn refused(config: AdminConfig) -> (TlsError, String) {
    refusal(Server::attempt(config).await)
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_file_and_its_key() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let shown = |path: &Path| path.display().to_string();
    let (certificate, key) = (shown(&files.certificate()), shown(&files.key()));

    let (_, said) = refused(AdminConfig {
        tls_key: None,
        ..files.config()
    })
    .await;
    assert!(
        said.starts_with("http.tls_certificate is set and http.tls_key is not"),
        "{said}"
    );
    let (_, said) = refused(AdminConfig {
        tls_certificate: None,
        ..files.config()
    })
    .await;
    assert!(
        said.starts_with("http.tls_key is set and http.tls_certificate is not"),
        "{said}"
    );

    let spoiled = |path: PathBuf, text: &[u8]| {
        std::fs::write(path, text).unwrap();
        files.config()
    };
    let whole = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
    let (error, said) = refused(spoiled(files.certificate(), b"no certificate")).await;
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{said}");
    assert!(
        said.contains(&certificate) && said.contains("http.tls_certificate"),
        "{said}"
    );
    // A key where the certificate should be.
    let (error, _) = refused(spoiled(files.certificate(), pair.key.as_bytes())).await;
    assert!(matches!(error, TlsError::NoCertificate { .. }));
    let block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (error, said) = refused(spoiled(files.certificate(), block)).await;
    assert!(matches!(error, TlsError::BadCertificate { .. }), "{said}");
    let (error, said) = refused(spoiled(files.certificate(), &vec![b'x'; 300_000])).await;
    assert!(matches!(error, TlsError::TooLong { .. }), "{said}");
    whole(files.certificate(), &pair.certificate);

    let sealed = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let (error, said) = refused(spoiled(files.key(), sealed.as_bytes())).await;
    assert!(matches!(error, TlsError::NoKey { .. }), "{said}");
    assert!(
        said.contains(&key) && said.contains("http.tls_key"),
        "{said}"
    );
    let block = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (error, said) = refused(spoiled(files.key(), block)).await;
    assert!(matches!(error, TlsError::BadKey { .. }), "{said}");
    let (error, said) = refused(spoiled(files.key(), self_signed().key.as_bytes())).await;
    assert!(matches!(error, TlsError::Mismatch { .. }), "{said}");
    for part in [&certificate, &key, "http.tls_certificate", "http.tls_key"] {
        assert!(said.contains(part), "{said}");
    }
    std::fs::remove_file(files.key()).unwrap();
    let (error, said) = refused(files.config()).await;
    assert!(matches!(error, TlsError::Unreadable { .. }), "{said}");
    assert!(
        said.contains(&key) && said.contains("http.tls_key"),
        "{said}"
    );
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let pair = self_signed();
    let files = Files::of(&pair);
    let (_, said) = refused(AdminConfig {
        public_url: Some("http://meet.example.org".to_owned()),
        ..files.config()
    })
    .await;
    assert!(
        said.contains("http.public_url") && said.contains("https://"),
        "{said}"
    );
    let (_, said) = refused(AdminConfig {
        redirect_bind: Some(([127, 0, 0, 1], 0).into()),
        ..AdminConfig::default()
    })
    .await;
    assert!(
        said.contains("http.redirect_bind") && said.contains("http.tls_certificate"),
        "{said}"
    );
    let taken = TcpStream::connect(Server::start().await.address)
        .await
        .unwrap();
    let taken = taken.local_addr().unwrap();
    let held = std::net::TcpListener::bind((taken.ip(), 0)).unwrap();
    let outcome = Server::attempt(AdminConfig {
        redirect_bind: Some(held.local_addr().unwrap()),
        ..files.config()
    })
    .await;
    let Err(error @ ServeError::PortTaken { .. }) = outcome else {
        panic!("it started");
    };
    assert!(error.to_string().contains("http.redirect_bind"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_served_all_the_same() {
    let mut expired = params();
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let pair = self_signed_by(KeyPair::generate().unwrap(), &expired);
    let (_files, server) = served(&pair).await;
    let refused = dial(&server, &[&pair.der], BOTH, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    let good = self_signed();
    // An alert counts as the client's refusal: browsers send it until the person insists.
    std::fs::write(_files.key(), &good.key).unwrap();
    std::fs::write(_files.certificate(), &good.certificate).unwrap();
    let failed = "palabre_http_handshakes_failed_total{reason=\"refused\"} 1";
    counted(&server, &good.der, failed).await;
}

#[tokio::test]
async fn every_usual_kind_of_key_is_taken() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = self_signed_by(key, &params());
        let (_files, server) = served(&pair).await;
        assert_eq!(get(&server, &pair.der, "/healthz").await.status, 200);
    }
}
