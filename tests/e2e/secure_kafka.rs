//! A Kafka behind TLS, which may ask who comes: passwords, certificates of clients, and those who may not.

use std::{collections::BTreeSet, fs, path::PathBuf};

use fanfare_testkit::kafka::{Cluster, Security, Settings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Answer, Client, Installation, Recorder,
    installation::{Finished, finish, make_main_secret},
    wait,
};

const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "another-password";

struct Secured {
    cluster: Cluster,
    directory: TempDir,
}

/// A certificate with its key, both in PEM.
struct Identity {
    certificate: String,
    key: String,
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of tests");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), certificate)
}

fn identity(authority: &Issuer<'_, KeyPair>, name: &str) -> Identity {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

impl Secured {
    fn start() -> Self {
        let (issuer, authority) = authority();
        let broker = identity(&issuer, "broker");
        let client = identity(&issuer, "fanfare");
        let security = Security {
            certificate: broker.certificate,
            key: broker.key,
            authority: authority.clone(),
            users: ["fanfare", "nobody"].map(|name| (name.to_owned(), PASSWORD.to_owned())).into(),
            superusers: vec!["fanfare".to_owned(), "CN=fanfare".to_owned()],
        };
        let settings = Settings { security: Some(security), ..Settings::new(1) };
        let cluster = tokio::task::block_in_place(|| Cluster::start(&settings)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
        write("authority.pem", &authority);
        write("client.pem", &client.certificate);
        write("client.key", &client.key);
        write("stranger.pem", &self::authority().1);
        Self { cluster, directory }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("it is UTF-8").to_owned()
    }

    fn by_password(&self, mechanism: &str, user: &str, password: &str) -> Vec<String> {
        vec![
            "security.protocol=sasl_ssl".to_owned(),
            format!("ssl.ca.location={}", self.file("authority.pem")),
            format!("sasl.mechanism={mechanism}"),
            format!("sasl.username={user}"),
            format!("sasl.password={password}"),
        ]
    }

    fn by_certificate(&self) -> Vec<String> {
        let mut properties = self.by_tls();
        properties.push(format!("ssl.certificate.location={}", self.file("client.pem")));
        properties.push(format!("ssl.key.location={}", self.file("client.key")));
        properties
    }

    /// It knows the broker, and does not say who it is.
    fn by_tls(&self) -> Vec<String> {
        vec!["security.protocol=ssl".to_owned(), format!("ssl.ca.location={}", self.file("authority.pem"))]
    }

    /// A configuration file: as docs/configuration.md shows it.
    fn configuration(&self, name: &str, address: &str, properties: &[String]) -> PathBuf {
        let path = self.directory.path().join(format!("{name}.toml"));
        let secret = self.file("main-secret");
        let text = format!(
            "kafka = {address:?}\nkafka_prefix = \"{name}.\"\nkafka_properties = {properties:?}\n\
             message_partitions = 1\ndelivery_partitions = 2\nkafka_wait_secs = 5\nmain_secret_file = {secret:?}\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn sasl(&self) -> String {
        self.cluster.brokers()[0].sasl_address().expect("it is secured")
    }

    fn certificate(&self) -> String {
        self.cluster.brokers()[0].certificate_address().expect("it is secured")
    }

    fn tls(&self) -> String {
        self.cluster.brokers()[0].tls_address().expect("it is secured")
    }

    /// From now on only this user, and who is not asked.
    fn may(&self, user: &str) {
        let broker = &self.cluster.brokers()[0];
        tokio::task::block_in_place(|| {
            broker.stop().unwrap();
            broker.set("super.users", &format!("User:ANONYMOUS;User:{user}")).unwrap();
            broker.start(1).unwrap();
        });
    }

    async fn serve_in_vain(&self, name: &str, address: &str, properties: &[String]) -> Finished {
        let installation = Installation::new();
        let mut command = installation.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--config").arg(self.configuration(name, address, properties)).env("RUST_LOG", "debug");
        let finished = finish(&mut command).await;
        assert!(!finished.status.success(), "{finished:?}");
        for secret in [PASSWORD, WRONG, "correct-horse"] {
            assert!(!finished.stderr.contains(secret) && !finished.stdout.contains(secret), "{finished:?}");
        }
        finished
    }
}

/// Whoever is refused now is refused later, too.
#[track_caller]
fn refused_at_once(finished: &Finished, words: &[&str]) {
    assert!(!finished.stderr.contains("trying again"), "{}", finished.stderr);
    last_line_says(finished, words);
}

#[track_caller]
fn last_line_says(finished: &Finished, words: &[&str]) {
    let line = finished.stderr.lines().last().unwrap_or_default();
    println!("{line}");
    assert!(line.starts_with("fanfare: "), "{}", finished.stderr);
    for word in words {
        assert!(line.contains(word), "no `{word}` in: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_certificates_let_in_who_may_and_nobody_else() {
    let secured = Secured::start();
    make_main_secret(secured.directory.path());

    let recorder = Recorder::start().await;
    let password =
        |mechanism| (mechanism, secured.sasl(), secured.by_password(mechanism, "fanfare", PASSWORD));
    for (name, address, properties) in [
        password("PLAIN"),
        password("SCRAM-SHA-256"),
        password("SCRAM-SHA-512"),
        ("certificate", secured.certificate(), secured.by_certificate()),
        ("tls", secured.tls(), secured.by_tls()),
    ] {
        let installation = Installation::new();
        let configuration = secured.configuration(name, &address, &properties);
        let configuration = configuration.to_str().unwrap();
        let mut server = installation.spawn(&["--dev", "--config", configuration]);
        server.ready().await;
        let token = installation.token(&["--main-secret-file", &secured.file("main-secret")]).await;
        let client = installation.client_with(Some(&token));
        let application = client.application(name).await;
        client.endpoint(&application, &recorder.url(&format!("/{name}")), &json!({})).await;
        let body = json!({ "eventType": "a.b", "payload": {} }).to_string();
        let id = client.publish(&application, &[], &body).await.id(202);
        wait::until("the message arrives", wait::PATIENCE * 2, async || {
            recorder.receipts().iter().any(|receipt| receipt.header("webhook-id") == id).then_some(())
        })
        .await;
        assert_eq!(server.said(PASSWORD), 0);
        server.terminate().await;
    }

    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let wrong = secured.by_password(mechanism, "fanfare", WRONG);
        refused_at_once(
            &secured.serve_in_vain("wrong", &secured.sasl(), &wrong).await,
            &[&secured.sasl(), "refuses this user", "Authentication failed"],
        );
    }
    let nobody = secured.by_password("PLAIN", "nobody", PASSWORD);
    refused_at_once(
        &secured.serve_in_vain("nobody", &secured.sasl(), &nobody).await,
        &[&secured.sasl(), "refuses this user", "nobody.control"],
    );
    for (address, mut stranger) in [
        (secured.sasl(), secured.by_password("PLAIN", "fanfare", PASSWORD)),
        (secured.tls(), secured.by_tls()),
    ] {
        stranger[1] = format!("ssl.ca.location={}", secured.file("stranger.pem"));
        refused_at_once(
            &secured.serve_in_vain("stranger", &address, &stranger).await,
            &[&address, "certificate verify failed"],
        );
    }
    let bare = secured.serve_in_vain("bare", &secured.certificate(), &secured.by_tls()).await;
    last_line_says(&bare, &[&secured.certificate()]);

    // A mistake in the file does not show what stands there.
    let mistaken = secured.file("mistaken.toml");
    fs::write(&mistaken, format!("kafka_properties = \"sasl.password={PASSWORD}\"\n")).unwrap();
    let installation = Installation::new();
    let mut command = installation.command(&["serve", "--config", &mistaken]);
    let finished = finish(&mut command).await;
    last_line_says(&finished, &["kafka_properties is a list"]);
    assert!(!finished.stderr.contains("correct-horse"), "{finished:?}");
}

/// Publishes until it is answered so.
async fn publish_until(
    status: u16,
    client: &Client,
    application: &str,
    accepted: &mut Vec<String>,
) -> Answer {
    wait::until("rights are noticed", wait::PATIENCE * 6, async || {
        let body = json!({ "eventType": "number.counted", "payload": { "n": accepted.len() } }).to_string();
        let answer = client.publish(application, &[], &body).await;
        assert!([202, 503].contains(&answer.status), "{answer:?}");
        if answer.status == 202 {
            accepted.push(answer.id(202));
        }
        (answer.status == status).then_some(answer)
    })
    .await
}

/// Publishers are told so, the process goes on, and everything arrives in order once it may again.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_and_given_back() {
    let secured = Secured::start();
    make_main_secret(secured.directory.path());
    let properties = secured.by_password("PLAIN", "fanfare", PASSWORD);
    let configuration = secured.configuration("rights", &secured.sasl(), &properties);
    let installation = Installation::new();
    let mut server = installation.spawn(&["--dev", "--config", configuration.to_str().unwrap()]);
    server.ready().await;
    let token = installation.token(&["--main-secret-file", &secured.file("main-secret")]).await;
    let client = installation.client_with(Some(&token));
    let recorder = Recorder::start().await;
    let application = client.application("rights").await;
    client.endpoint(&application, &recorder.url("/"), &json!({})).await;
    let mut accepted = Vec::new();

    for _ in 0..20 {
        publish_until(202, &client, &application, &mut accepted).await;
    }
    secured.may("nobody");
    let refused = publish_until(503, &client, &application, &mut accepted).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    wait::until("it says why", wait::PATIENCE, async || {
        (server.said("authorization failed") > 0).then_some(())
    })
    .await;
    secured.may("fanfare");
    for _ in 0..20 {
        publish_until(202, &client, &application, &mut accepted).await;
    }

    wait::until("all that was accepted arrives", wait::PATIENCE * 2, async || {
        let receipts = recorder.receipts();
        let mut seen = BTreeSet::new();
        let came = receipts.iter().map(|receipt| receipt.header("webhook-id").to_owned());
        let firsts: Vec<String> =
            came.filter(|id| accepted.contains(id) && seen.insert(id.clone())).collect();
        (firsts.len() == accepted.len()).then(|| assert_eq!(firsts, accepted, "in order"))
    })
    .await;
    server.terminate().await;
}
