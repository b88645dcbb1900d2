//! What an operator can get wrong: one plain line on stderr, and a status that says so.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use crate::support::{Engine, Installation, installation::Finished, on_every_engine};

on_every_engine! {
    the_port_is_in_use,
    the_main_secret_is_readable_by_others,
    the_main_secret_is_no_secret,
    the_main_secret_cannot_be_read,
    the_main_secret_is_another_installations,
    an_option_is_wrong,
}

async fn the_port_is_in_use(engine: Engine) {
    let installation = Installation::on(&engine);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = installation.run(&["serve", "--dev", "--listen", &address]).await;
    refused(&finished, &[&address]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_is_locked() {
    let installation = Installation::new();
    let server = installation.start().await;
    let finished = installation.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]).await;
    refused(&finished, &[installation.data().to_str().unwrap()]);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_is_of_another_version() {
    let installation = Installation::new();
    installation.start().await.terminate().await;
    let format = installation.data().join("FORMAT");
    let ours = fs::read_to_string(&format).unwrap();
    let another: String = ours.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_ne!(ours, another, "FORMAT holds a number");
    fs::write(&format, another).unwrap();
    let finished = installation.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]).await;
    refused(&finished, &["format"]);
}

async fn the_main_secret_is_readable_by_others(engine: Engine) {
    let installation = Installation::on(&engine);
    let secret = installation.main_secret();
    installation.start().await.terminate().await;
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let finished = installation.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]).await;
    refused(&finished, &[secret.to_str().unwrap(), "600"]);
}

async fn the_main_secret_is_no_secret(engine: Engine) {
    let installation = Installation::on(&engine);
    let secret = installation.main_secret();
    installation.start().await.terminate().await;
    fs::write(&secret, "too short\n").unwrap();
    let finished = installation.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]).await;
    refused(&finished, &[secret.to_str().unwrap()]);
}

async fn the_main_secret_cannot_be_read(engine: Engine) {
    let installation = Installation::on(&engine);
    let missing = installation.data().join("nowhere").join("secret");
    let missing = missing.to_str().unwrap();
    let serve = ["serve", "--dev", "--listen", "127.0.0.1:0", "--main-secret-file", missing];
    refused(&installation.run(&serve).await, &[missing]);
}

async fn the_main_secret_is_another_installations(engine: Engine) {
    let installation = Installation::on(&engine);
    let another = Installation::on(&engine.another());
    for each in [&installation, &another] {
        each.start().await.terminate().await;
    }
    fs::copy(another.main_secret(), installation.main_secret()).unwrap();
    let finished = installation.run(&["serve", "--dev", "--listen", "127.0.0.1:0"]).await;
    refused(&finished, &["secret"]);
}

async fn an_option_is_wrong(engine: Engine) {
    let installation = Installation::on(&engine);
    let finished = installation.run(&["serve", "--listen", "nowhere"]).await;
    assert!(!finished.status.success(), "{finished:?}");
    assert!(finished.stderr.contains("listen"), "{finished:?}");
    assert!(!installation.data().exists(), "nothing is made before options are understood");
}

/// Beside the log, one line that names the trouble; and no success.
fn refused(finished: &Finished, needles: &[&str]) {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines.as_slice() else { panic!("not one line: {finished:?}") };
    for needle in needles {
        assert!(line.contains(needle), "no {needle:?} in {line:?}");
    }
    assert!(!line.contains("panicked") && !line.contains("Error {"), "not plain: {line:?}");
}
