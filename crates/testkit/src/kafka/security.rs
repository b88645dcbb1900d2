//! Listeners that ask who comes, beside the open one that brokers and tests' own clients use: passwords within TLS, and
//! certificates of clients. Whoever is no superuser may do nothing.

use std::collections::BTreeMap;

/// What the brokers know of their visitors.
#[derive(Clone, Debug)]
pub struct Security {
    /// In PEM: the certificate of the brokers, for 127.0.0.1, and its key in PKCS#8.
    pub certificate: String,
    pub key: String,
    /// In PEM: who vouches for certificates of clients.
    pub authority: String,
    /// Names and passwords, for PLAIN and SCRAM-SHA-512.
    pub users: Vec<(String, String)>,
    /// Who may do everything: names of users, or of certificates as `CN=name`.
    pub superusers: Vec<String>,
}

/// Where those who say who they are come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) sasl_ssl: u16,
    pub(super) ssl: u16,
}

impl Security {
    /// What makes the open broker one that also asks.
    pub(super) fn properties(&self, ports: Ports, open: &str) -> BTreeMap<String, String> {
        let Ports { sasl_ssl, ssl } = ports;
        let plain = self.users.iter().fold(
            "org.apache.kafka.common.security.plain.PlainLoginModule required".to_owned(),
            |line, (name, password)| format!("{line} user_{name}=\"{password}\""),
        );
        // Brokers come by the open listener.
        let superusers = ["ANONYMOUS".to_owned()].into_iter().chain(self.superusers.iter().cloned());
        let superusers: Vec<String> = superusers.map(|name| format!("User:{name}")).collect();
        [
            ("listeners", format!("{open},SASL_SSL://127.0.0.1:{sasl_ssl},SSL://127.0.0.1:{ssl}")),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL".to_owned(),
            ),
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512".to_owned()),
            ("listener.name.sasl_ssl.plain.sasl.jaas.config", format!("{plain};")),
            (
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
            ),
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.certificate.chain", self.certificate.clone()),
            ("ssl.keystore.key", self.key.clone()),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.certificates", self.authority.clone()),
            ("listener.name.ssl.ssl.client.auth", "required".to_owned()),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
            ("super.users", superusers.join(";")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Options of the format: passwords for SCRAM are among what the brokers keep.
    pub(super) fn format_options(&self) -> Vec<String> {
        let user = |(name, password): &(String, String)| {
            ["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name={name},password={password}]")]
        };
        self.users.iter().flat_map(user).collect()
    }
}
