//! The image and the compose file without a container engine: what they say is done, with processes.

mod build;
mod compose;
mod container;
mod dockerfile;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::Duration,
};

use fanfare_testkit::kafka::{Cluster, Settings, VERSION};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};
use serde_json::json;

use self::{
    build::{Image, workspace},
    compose::{Compose, Service},
    container::{Container, Volume},
};
use crate::support::{
    Client, Recorder, Server,
    client::Address,
    installation::{Finished, finish},
    wait,
};

/// Libraries that every Debian has: it needs them for itself.
const BASE_LIBRARIES: [&str; 7] =
    ["linux-vdso", "ld-linux", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libz.so.1", "libzstd.so.1"];
const LIBSSL3_LIBRARIES: [&str; 2] = ["libssl.so.3", "libcrypto.so.3"];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn succeeds(command: &mut Command) -> Finished {
    let finished = finish(command).await;
    assert!(finished.status.success(), "{finished:?}");
    finished
}

/// What the engine asks again and again, until it is answered well.
async fn healthy(container: &Container<'_>, server: &mut Server) {
    server.listening().await;
    let check = &container.image.healthcheck;
    wait::until("healthy", wait::PATIENCE * 2, async || {
        finish(&mut container.command(check)).await.status.success().then_some(())
    })
    .await;
}

fn run(container: &Container<'_>, command: Option<&[String]>, address: &Address) -> Server {
    let mut all = container.image.entrypoint.clone();
    all.extend_from_slice(command.unwrap_or(&container.image.command));
    Server::spawn(&mut container.command(&all), address.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_serves_on_a_read_only_root_without_rights() {
    let (image, before) = Image::build();
    let [builder] = &before[..] else { panic!("not one stage before the last") };
    for package in ["cmake", "libssl-dev", "pkg-config"] {
        assert!(builder.packages.iter().any(|asked| asked == package), "building needs {package}");
    }
    // What is not linked into the program comes with the base or is asked for.
    let linked = succeeds(Command::new("ldd").arg(image.path("/usr/local/bin/fanfare"))).await.stdout;
    for library in linked.lines().map(str::trim) {
        let is_of = |libraries: &[&str]| libraries.iter().any(|name| library.contains(name));
        let has_ssl = image.packages.iter().any(|package| package == "libssl3");
        assert!(is_of(&BASE_LIBRARIES) || has_ssl && is_of(&LIBSSL3_LIBRARIES), "nothing brings {library}");
    }
    let [data] = &image.volumes[..] else { panic!("not one volume") };
    assert_ne!(image.user.0, 0);
    let directory = image.directories[data];
    assert_eq!(directory.owner, image.user, "{data} is somebody else's");
    assert_eq!(directory.mode & 0o077, 0, "others may look into {data}: {directory:?}");
    assert_eq!(image.environment["FANFARE_LISTEN"], format!("0.0.0.0:{}", image.port));
    assert_eq!(image.environment["FANFARE_DATA_DIR"], *data);

    let kept = tempfile::tempdir().unwrap();
    let mut container = Container::new(&image);
    let volume = Volume { directory: kept.path().to_owned(), path: data.clone(), is_read_only: false };
    container.volumes.push(volume);
    // The network is this machine's.
    container.environment.insert("FANFARE_LISTEN".to_owned(), format!("127.0.0.1:{}", free_port()));
    let shell = |text: &str| container.command(&words(&["sh", "-c", text]));
    assert_eq!(succeeds(&mut shell("id -u; id -g")).await.stdout, "10001\n10001\n");
    assert!(!finish(&mut shell("touch /here")).await.status.success(), "the root can be written to");
    assert!(!finish(&mut shell("touch /usr/local/bin/here")).await.status.success());
    assert!(!finish(&mut container.command(&image.healthcheck)).await.status.success(), "nothing runs yet");

    let address = Address::default();
    for _ in 0..2 {
        let mut server = run(&container, None, &address);
        healthy(&container, &mut server).await;
        server.terminate().await;
    }
    assert!(kept.path().join("main-secret").exists() && kept.path().join("FORMAT").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_is_that_of_the_program() {
    let (_, before) = Image::build();
    let dist = before[0].path("/src/target/dist");
    succeeds(Command::new("sha256sum").args(["--check", "--strict", "fanfare.sha256"]).current_dir(&dist))
        .await;
    let symbols = finish(Command::new("nm").arg(dist.join("fanfare"))).await;
    assert!(symbols.stderr.contains("no symbols"), "{}", symbols.stderr);
}

/// Services of the compose file that run until they are asked to stop.
const SERVERS: [&str; 3] = ["front", "router", "delivery"];

/// What the program's own limits for its end come to: requests in, all that is on its way, history, which waits twice, and
/// both producers.
fn stop_takes() -> Duration {
    let secs = |file: &str, name: &str| -> u64 {
        let source = fs::read_to_string(workspace().join(file)).unwrap();
        let constant = format!("const {name}: Duration = Duration::from_secs(");
        let (_, rest) = source.split_once(&constant).unwrap_or_else(|| panic!("there is no {name}"));
        rest.split_once(')').and_then(|(secs, _)| secs.parse().ok()).expect("a number of seconds")
    };
    let run = |name| secs("src/run.rs", name);
    let close = secs("crates/log/src/kafka/limits.rs", "CLOSE");
    Duration::from_secs(run("HTTP_DRAIN") + run("WRITE_DOWN") + 2 * run("HISTORY_DRAIN") + 2 * close)
}

/// It may do no more than it needs, and has the time for a good end.
fn is_kept_small(name: &str, service: &Service) {
    assert_eq!(service.cap_drop, ["ALL"], "{name} keeps capabilities");
    assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name} can get more rights");
    let grace = service.stop_grace().unwrap_or_else(|| panic!("{name}: the engine's default is no promise"));
    assert!(grace > stop_takes(), "{name} is killed after {grace:?}, and may need {:?}", stop_takes());
}

/// The compose file's services on this machine.
struct Up<'a> {
    compose: &'a Compose,
    image: &'a Image,
    /// Named volumes, each a directory.
    volumes: BTreeMap<&'a str, tempfile::TempDir>,
    kafka: &'a str,
}

impl<'a> Up<'a> {
    fn container(&self, name: &str) -> Container<'a> {
        let service = &self.compose.services[name];
        assert!(service.read_only, "{name} can write to its root");
        assert_eq!((&*service.image, service.build.as_deref()), ("fanfare", Some(".")));
        let mut container = Container::new(self.image);
        for (variable, value) in &service.environment {
            // Names of services are known in the engine's network alone.
            let value = value.to_string().replace("kafka:9092", self.kafka);
            container.environment.insert(variable.clone(), value);
        }
        container.environment.insert("FANFARE_LISTEN".to_owned(), format!("127.0.0.1:{}", free_port()));
        for volume in &service.volumes {
            let parts: Vec<&str> = volume.split(':').collect();
            let (name, path, is_read_only) = match parts[..] {
                [name, path] => (name, path, false),
                [name, path, "ro"] => (name, path, true),
                _ => panic!("{volume}: no way to understand it"),
            };
            let directory = self.volumes[name].path().to_owned();
            container.volumes.push(Volume { directory, path: path.to_owned(), is_read_only });
        }
        container
    }
}

/// Kafka's image makes settings of variables.
fn properties(service: &Service) -> BTreeMap<String, String> {
    let variables = service.environment.iter();
    let property = |name: &str| name.strip_prefix("KAFKA_").map(|name| name.to_lowercase().replace('_', "."));
    variables.map(|(name, value)| (property(name).expect("a setting"), value.to_string())).collect()
}

/// Settings that say where a broker is; on this machine it is elsewhere.
const PLACES: [&str; 5] =
    ["node.id", "listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"];

async fn start_kafka(service: &Service) -> Cluster {
    assert_eq!(service.image, format!("apache/kafka:{VERSION}"), "the release that tests run against");
    let check = service.healthcheck.as_ref().expect("others wait for it");
    assert_eq!(check.test[..2], ["CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh"]);
    let all = properties(service);
    assert_eq!(all["log.dirs"], service.volumes[0].split_once(':').unwrap().1, "its records are in a volume");
    assert_eq!(all["advertised.listeners"], format!("PLAINTEXT://{}", check.test[3]));
    let mut settings = Settings::new(1);
    settings.properties = all.clone();
    settings.properties.retain(|name, _| !PLACES.contains(&&**name));
    let cluster = tokio::task::block_in_place(|| Cluster::start(&settings)).expect("it takes the settings");

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
    let described =
        admin.describe_configs(&[ResourceSpecifier::Broker(1)], &AdminOptions::new()).await.unwrap();
    let entries = described.into_iter().next().unwrap().unwrap().entries;
    let known: BTreeMap<_, _> =
        entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())).collect();
    for (name, value) in &all {
        let known = known.get(name).unwrap_or_else(|| panic!("Kafka knows no {name}"));
        assert!(known == value || PLACES.contains(&&**name), "{name} is {known}, not {value}");
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_file_delivers_a_message() {
    let text = fs::read_to_string(workspace().join("docker-compose.yml")).unwrap();
    let compose = compose::parse(&text, &[("FANFARE_DEV", "true")].into());
    for name in SERVERS {
        is_kept_small(name, &compose.services[name]);
    }
    let (image, _) = Image::build();
    for (name, service) in &compose.services {
        for (other, condition) in &service.depends_on {
            let other = &compose.services[other];
            match &*condition.condition {
                "service_healthy" => assert!(other.healthcheck.is_some(), "{name} waits for ever"),
                "service_completed_successfully" => assert!(other.entrypoint.is_some()),
                condition => panic!("{name}: {condition}: no way to understand it"),
            }
        }
    }
    let cluster = start_kafka(&compose.services["kafka"]).await;
    let kafka = cluster.bootstrap();
    let volume = |name| (name, tempfile::tempdir().unwrap());
    let volumes = compose.volumes.keys().map(|name| volume(name.as_str())).collect();
    let up = Up { compose: &compose, image: &image, volumes, kafka: &kafka };

    let maker = up.container("secret");
    let service = &compose.services["secret"];
    let make = [service.entrypoint.clone().unwrap(), service.command.clone().unwrap()].concat();
    let path = up.volumes["secret"].path().join("main-secret");
    succeeds(&mut maker.command(&make)).await;
    let secret = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    succeeds(&mut maker.command(&make)).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), secret, "it is made once");

    let (mut servers, mut roles) = (Vec::new(), BTreeSet::new());
    for name in SERVERS {
        let service = &compose.services[name];
        let mut container = up.container(name);
        roles.extend(container.environment["FANFARE_ROLE"].split(',').map(str::to_owned));
        // The engine makes a volume without a name of what the image says.
        let unnamed = tempfile::tempdir().unwrap();
        let (directory, path) = (unnamed.path().to_owned(), image.volumes[0].clone());
        container.volumes.push(Volume { directory, path, is_read_only: false });
        let address = Address::default();
        let mut server = run(&container, service.command.as_deref(), &address);
        healthy(&container, &mut server).await;
        servers.push((container, server, address, unnamed));
    }
    assert_eq!(roles, ["api", "delivery", "ingest", "router"].map(str::to_owned).into());
    let port = format!("{0}:{0}", image.port);
    assert!(compose.services["front"].ports[0].ends_with(&port));

    // As the file's first lines say.
    let (front, _, address, _) = &servers[0];
    let said = text.lines().find_map(|line| line.split_once("exec front ")).expect("it says how").1;
    let token: Vec<String> = said.split('`').next().unwrap().split(' ').map(str::to_owned).collect();
    let token = succeeds(&mut front.command(&token)).await.stdout;
    let client = Client::new(address.clone(), Some(token.trim().to_owned()));
    let recorder = Recorder::start().await;
    let application = client.application("composed").await;
    client.endpoint(&application, &recorder.url("/hook"), &json!({})).await;
    let body = json!({ "eventType": "order.created", "payload": { "order": 17 } }).to_string();
    let id = client.publish(&application, &[], &body).await.id(202);
    wait::until("the message arrives", wait::PATIENCE * 2, async || {
        recorder.receipts().iter().any(|receipt| receipt.header("webhook-id") == id).then_some(())
    })
    .await;
    for (_, server, _, _) in servers {
        server.terminate().await;
    }
}
