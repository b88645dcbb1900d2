#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn allows(guard: &Guard, address: &str) -> bool {
    guard.allows(address.parse().unwrap())
}

#[test]
fn both_ends_of_every_special_range_are_refused() {
    let guard = Guard::new(Vec::new(), false);
    for (range, name) in REFUSED_V4 {
        let range: Ipv4Net = range.parse().unwrap();
        assert_eq!(range, range.trunc(), "{name} is written with host bits");
        for address in [range.network(), range.broadcast()] {
            assert!(!guard.allows(address.into()), "{address} ({name})");
            assert!(!guard.allows(address.to_ipv6_mapped().into()), "mapped {address} ({name})");
            assert!(!guard.allows(address.to_ipv6_compatible().into()), "compatible {address} ({name})");
        }
    }
    for (range, name) in REFUSED_V6 {
        let range: Ipv6Net = range.parse().unwrap();
        assert_eq!(range, range.trunc(), "{name} is written with host bits");
        let inside = range.broadcast();
        let judged_by_v4 = guard.reached_v4(range.network()).is_some();
        assert!(judged_by_v4 || !guard.allows(range.network().into()), "{} ({name})", range.network());
        assert!(!guard.allows(inside.into()), "{inside} ({name})");
    }
}

#[test]
fn neighbours_of_special_ranges_are_allowed() {
    let guard = Guard::new(Vec::new(), false);
    let public = [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00::1",
        "3ffe:ffff::",
    ];
    for address in public {
        assert!(allows(&guard, address), "{address}");
    }
}

#[test]
fn an_address_inside_an_address_decides() {
    let guard = Guard::new(Vec::new(), false);
    let cases = [
        ("::ffff:1.1.1.1", true),
        ("::ffff:169.254.169.254", false),
        ("64:ff9b::1.1.1.1", true),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b:1::1.1.1.1", false),
        ("::1.1.1.1", false),
        ("2002:7f00:1::", false),
        ("2002:101:101::", false),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", false),
        ("fd00:ec2::254", false),
        ("100.100.100.200", false),
    ];
    for (address, allowed) in cases {
        assert_eq!(allows(&guard, address), allowed, "{address}");
    }
}

#[test]
fn allow_list_and_development_open_only_what_they_name() {
    let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()], true);
    let cases = [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("64:ff9b::10.1.2.3", true),
        ("10.2.0.1", false),
        ("fd00::1", true),
        ("fd00:0:0:1::1", false),
        ("127.0.0.1", true),
        ("127.255.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("0.0.0.0", false),
        ("::", false),
        ("169.254.169.254", false),
    ];
    for (address, allowed) in cases {
        assert_eq!(allows(&guard, address), allowed, "{address}");
    }
}
