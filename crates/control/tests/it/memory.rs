//! What an idle endpoint costs.

use std::{fs, process::Command as Process};

use fanfare_control::{
    ApplicationSettings, Command, EndpointSettings, Envelope, Installation, MainSecret, View,
    default_organization,
};
use fanfare_core::{
    EndpointId, Entropy, Id, Partition, SystemEntropy, Timestamp, limits::CONTROL_RUN_BYTES,
    signature::SigningKey,
};

const ENDPOINTS: u32 = 100_000;
const PER_APPLICATION: u32 = 10;
const BYTES_PER_ENDPOINT: usize = 900;

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[test]
fn an_idle_endpoint_costs_well_under_a_kilobyte() {
    let mut measure = Process::new(std::env::current_exe().unwrap());
    let measured = measure.args(["--exact", "memory::measure", "--ignored", "--nocapture"]).status().unwrap();
    assert!(measured.success());
}

/// Makes what the log of 10,000 applications with 10 endpoints each makes, records read and dropped in between.
#[test]
#[ignore = "needs a process of its own, as its neighbour gives it"]
fn measure() {
    let entropy: &dyn Entropy = &SystemEntropy;
    let sealer = MainSecret::from_bytes([1; 32]).sealer();
    let mut view = View::default();
    let apply = |view: &mut View, command: Command| {
        let envelope =
            Envelope { at: Timestamp::from_secs(1_700_000_000), nonce: 0, key: None, origin: None, command };
        let read = Envelope::decode(&envelope.encode()).unwrap();
        let offset = view.position();
        view.apply(offset, &read).unwrap();
    };
    apply(
        &mut view,
        Command::Install(Installation {
            id: Id::from_bytes([0; 20]),
            incarnations: [].into(),
            message_partitions: 16,
            delivery_partitions: 16,
            secret_check: String::new(),
        }),
    );
    let before = resident_bytes();
    let mut application = Id::from_bytes([0; 20]);
    for number in 0..ENDPOINTS {
        let at = Timestamp::from_millis(1_700_000_000_000 + i64::from(number));
        if number % PER_APPLICATION == 0 {
            application = Id::mint(at, entropy.bytes());
            let settings = ApplicationSettings {
                name: format!("Customer {number}"),
                uid: Some(format!("customer-{number}")),
                ..Default::default()
            };
            let (organization, partition) = (default_organization(), view.emptiest_message_partition());
            apply(
                &mut view,
                Command::CreateApplication { id: application, organization, partition, settings },
            );
        }
        let id = EndpointId::mint(at, entropy.bytes());
        let key = SigningKey::generate_symmetric(entropy).to_string();
        let secret =
            fanfare_control::EndpointSecret { sealed: sealer.seal(id, &key, entropy), expires_at: None };
        let settings = Box::new(EndpointSettings {
            url: format!("https://customer-{number}.example.com/webhooks"),
            ..Default::default()
        });
        let partition = view.emptiest_delivery_partition();
        apply(&mut view, Command::CreateEndpoint { id, application, partition, settings, secret });
    }
    let grown = resident_bytes() - before;
    let per_endpoint = grown / ENDPOINTS as usize;
    println!("{} bytes of them the struct itself", size_of::<fanfare_control::Endpoint>());
    println!("{per_endpoint} bytes per endpoint, its share of its application included");
    assert_eq!(view.endpoint_count(), ENDPOINTS as usize);
    assert_eq!(view.endpoints().filter(|endpoint| endpoint.partition == Partition(0)).count(), 6_250);
    assert!(per_endpoint < BYTES_PER_ENDPOINT, "{per_endpoint} bytes per endpoint");
    assert!(grown > CONTROL_RUN_BYTES, "nothing was measured");
}
