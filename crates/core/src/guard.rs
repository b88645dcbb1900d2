//! Which addresses requests may go to. An endpoint's URL comes from outside: without this, it could name our own
//! machine, our network or a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IANA IPv4 Special-Purpose Address Registry, multicast, and public addresses with a private meaning.
pub const REFUSED_V4: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private use"),
    ("100.64.0.0/10", "shared address space; Alibaba metadata"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "Azure platform"),
    ("169.254.0.0/16", "link local; metadata"),
    ("172.16.0.0/12", "private use"),
    ("192.0.0.0/24", "IETF protocol assignments; Oracle metadata"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112-v4"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relay anycast"),
    ("192.168.0.0/16", "private use"),
    ("192.175.48.0/24", "direct delegation AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, limited broadcast"),
];

/// IANA IPv6 Special-Purpose Address Registry, multicast, and what is not global unicast. Forms that carry an
/// IPv4 address and may reach it (mapped, NAT64) are judged by that address instead; 6to4 and Teredo
/// are refused whatever they carry.
pub const REFUSED_V6: &[(&str, &str)] = &[
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b:1::/48", "local-use IPv4/IPv6 translation"),
    ("100::/64", "discard only"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/23", "IETF protocol assignments"),
    ("2001::/32", "Teredo"),
    ("2001:1::1/128", "port control protocol anycast"),
    ("2001:1::2/128", "TURN anycast"),
    ("2001:1::3/128", "DNS-SD service registration anycast"),
    ("2001:2::/48", "benchmarking"),
    ("2001:3::/32", "AMT"),
    ("2001:4:112::/48", "AS112-v6"),
    ("2001:10::/28", "ORCHID"),
    ("2001:20::/28", "ORCHIDv2"),
    ("2001:30::/28", "drone remote identification"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "direct delegation AS112"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique local; metadata"),
    ("fe80::/10", "link local"),
    ("fec0::/10", "site local"),
    ("ff00::/8", "multicast"),
    // All that is left outside 2000::/3 is not assigned to anyone.
    ("::/3", "not global unicast"),
    ("4000::/2", "not global unicast"),
    ("8000::/1", "not global unicast"),
];

/// NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is reached.
const TRANSLATED: &str = "64:ff9b::/96";

/// Decides by address. Names are decided by what they resolve to.
#[derive(Clone, Debug)]
pub struct Guard {
    refused_v4: Vec<Ipv4Net>,
    refused_v6: Vec<Ipv6Net>,
    translated: Ipv6Net,
    allowed: Vec<IpNet>,
    allow_loopback: bool,
}

impl Guard {
    /// `allowed` is let through although it is special; `allow_loopback` also lets 127.0.0.0/8 and `::1` through.
    pub fn new(allowed: Vec<IpNet>, allow_loopback: bool) -> Self {
        Self {
            refused_v4: REFUSED_V4.iter().map(|(range, _)| parse(range)).collect(),
            refused_v6: REFUSED_V6.iter().map(|(range, _)| parse(range)).collect(),
            translated: parse(TRANSLATED),
            allowed,
            allow_loopback,
        }
    }

    pub fn allows(&self, address: IpAddr) -> bool {
        if self.allowed.iter().any(|range| range.contains(&address)) {
            return true;
        }
        match address {
            IpAddr::V4(v4) => self.allows_v4(v4),
            IpAddr::V6(v6) => self.allows_v6(v6),
        }
    }

    fn allows_v4(&self, address: Ipv4Addr) -> bool {
        (self.allow_loopback && address.is_loopback())
            || !self.refused_v4.iter().any(|range| range.contains(&address))
    }

    fn allows_v6(&self, address: Ipv6Addr) -> bool {
        if let Some(reached) = self.reached_v4(address) {
            return self.allows(reached.into());
        }
        (self.allow_loopback && address.is_loopback())
            || !self.refused_v6.iter().any(|range| range.contains(&address))
    }

    fn reached_v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if self.translated.contains(&address) {
            let [.., a, b, c, d] = address.octets();
            return Some(Ipv4Addr::new(a, b, c, d));
        }
        address.to_ipv4_mapped()
    }
}

fn parse<T: std::str::FromStr>(range: &str) -> T {
    range.parse().ok().expect("the tables hold well-formed ranges")
}

#[cfg(test)]
mod tests;
