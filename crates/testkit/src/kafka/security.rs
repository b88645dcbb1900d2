//! Listeners within TLS, beside the open one that brokers and tests' own clients use: one that asks for passwords, one
//! for certificates of clients, and one for nothing. Whoever is no superuser may do nothing; who is not asked is one.

use std::collections::BTreeMap;

/// Ways to prove a password without sending it.
const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
const SCRAM_LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";

/// What the brokers know of their visitors.
#[derive(Clone, Debug)]
pub struct Security {
    /// In PEM: the certificate of the brokers, for 127.0.0.1, and its key in PKCS#8.
    pub certificate: String,
    pub key: String,
    /// In PEM: who vouches for certificates of clients.
    pub authority: String,
    /// Names and passwords, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    pub users: Vec<(String, String)>,
    /// Who may do everything: names of users, or of certificates as `CN=name`.
    pub superusers: Vec<String>,
}

/// Where one comes in within TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// With a name and a password.
    pub(super) sasl: u16,
    /// With a certificate.
    pub(super) certificate: u16,
    /// As anybody.
    pub(super) tls: u16,
}

impl Ports {
    pub(super) const COUNT: usize = 3;

    pub(super) fn all(self) -> [u16; Self::COUNT] {
        [self.sasl, self.certificate, self.tls]
    }
}

impl From<[u16; Ports::COUNT]> for Ports {
    fn from([sasl, certificate, tls]: [u16; Ports::COUNT]) -> Self {
        Self { sasl, certificate, tls }
    }
}

impl Security {
    /// What makes the open broker one that also asks.
    pub(super) fn properties(&self, ports: Ports, open: &str) -> BTreeMap<String, String> {
        let Ports { sasl, certificate, tls } = ports;
        let plain = self.users.iter().fold(
            "org.apache.kafka.common.security.plain.PlainLoginModule required".to_owned(),
            |line, (name, password)| format!("{line} user_{name}=\"{password}\""),
        );
        // Brokers come by the open listener, and nobody is asked by that of TLS alone.
        let superusers = ["ANONYMOUS".to_owned()].into_iter().chain(self.superusers.iter().cloned());
        let superusers: Vec<String> = superusers.map(|name| format!("User:{name}")).collect();
        [
            (
                "listeners",
                format!(
                    "{open},SASL://127.0.0.1:{sasl},CERTIFICATE://127.0.0.1:{certificate},TLS://127.0.0.1:{tls}"
                ),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,CERTIFICATE:SSL,TLS:SSL".to_owned(),
            ),
            ("sasl.enabled.mechanisms", format!("PLAIN,{}", SCRAM.join(","))),
            ("listener.name.sasl.plain.sasl.jaas.config", format!("{plain};")),
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.certificate.chain", self.certificate.clone()),
            ("ssl.keystore.key", self.key.clone()),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.certificates", self.authority.clone()),
            ("listener.name.certificate.ssl.client.auth", "required".to_owned()),
            ("listener.name.tls.ssl.client.auth", "none".to_owned()),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
            ("super.users", superusers.join(";")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(SCRAM.map(|mechanism| {
            let mechanism = mechanism.to_lowercase();
            (format!("listener.name.sasl.{mechanism}.sasl.jaas.config"), SCRAM_LOGIN.to_owned())
        }))
        .collect()
    }

    /// Options of the format: passwords for SCRAM are among what the brokers keep.
    pub(super) fn format_options(&self) -> Vec<String> {
        let mut options = Vec::new();
        for (name, password) in &self.users {
            for mechanism in SCRAM {
                options.push("--add-scram".to_owned());
                options.push(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        options
    }
}
