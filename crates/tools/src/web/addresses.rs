//! Which addresses are of the public internet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::{IpNet, Ipv6Net};

/// IANA's registries of special-purpose addresses, multicast, and what is reserved.
const NOT_PUBLIC: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// Of all unicast addresses, what is not public; Teredo and ORCHID are in the first.
const NOT_PUBLIC_6: [&str; 3] = ["2001::/23", "2001:db8::/32", "3fff::/20"];

static REFUSED: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| NOT_PUBLIC.iter().chain(&NOT_PUBLIC_6).filter_map(|net| net.parse().ok()).collect());

/// What is assigned to somebody, at all.
static UNICAST: LazyLock<Ipv6Net> =
    LazyLock::new(|| Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3));
static NAT64: LazyLock<Ipv6Net> =
    LazyLock::new(|| Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96));
static SIX_TO_FOUR: LazyLock<Ipv6Net> =
    LazyLock::new(|| Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16));

pub(super) fn is_public(address: IpAddr) -> bool {
    let is_refused = |address: IpAddr| REFUSED.iter().any(|net| net.contains(&address));
    match address {
        IpAddr::V4(_) => !is_refused(address),
        IpAddr::V6(six) => match embedded(six) {
            Some(four) => !is_refused(IpAddr::V4(four)),
            None => UNICAST.contains(&six) && !is_refused(address),
        },
    }
}

/// The IPv4 address that is reached through an IPv6 one.
fn embedded(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = six.octets();
    let at = |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    if NAT64.contains(&six) {
        return Some(at(12));
    }
    if SIX_TO_FOUR.contains(&six) {
        return Some(at(2));
    }
    six.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_net_is_read() {
        assert_eq!(REFUSED.len(), NOT_PUBLIC.len() + NOT_PUBLIC_6.len());
    }

    #[test]
    fn only_public_addresses_are() {
        let public = [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        let others = [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ];
        for (addresses, expected) in [(public.as_slice(), true), (others.as_slice(), false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
