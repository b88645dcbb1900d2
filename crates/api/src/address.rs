//! Hosts that no endpoint may have unless the installation allows it.
//!
//! A name can point anywhere, and elsewhere tomorrow: what it resolves to is checked when a request leaves. This
//! check is for the one who types the URL: an address that will be refused then is refused now.

use std::net::{IpAddr, Ipv4Addr};

use fanfare_core::guard::Guard;
use url::{Host, Url};

/// Whether the URL's host is, on its face, an address that nothing will be sent to.
pub(crate) fn is_refused(url: &str, guard: &Guard) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name != "localhost" && !name.ends_with(".localhost") {
                return false;
            }
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
        None => return false,
    };
    !guard.allows(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_through_every_spelling() {
        let guard = Guard::new(Vec::new(), false);
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0/",
            "https://10.1.2.3:8443/x",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
        ] {
            assert!(is_refused(url, &guard), "{url}");
        }
        for url in [
            "https://example.com/",
            "https://93.184.216.34/",
            "https://172.32.0.1/",
            "https://[2606:4700::1111]/",
            "https://localhost.example.com/",
        ] {
            assert!(!is_refused(url, &guard), "{url}");
        }
    }
}
