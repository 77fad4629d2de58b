//! IP addresses that are not public on the Internet, in every notation. Tables of the IANA special-purpose
//! registries (RFC 6890 and later).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;

use super::{EgressError, host};

/// Special networks of IPv4 with their purpose.
const IPV4: [(Ipv4Net, &str); 16] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "shared by a provider (CGNAT)"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local, where clouds keep their metadata"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "reserved for protocols"),
    (v4([192, 0, 2, 0], 24), "for documentation"),
    (v4([192, 88, 99, 0], 24), "a former 6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "for benchmarks"),
    (v4([198, 51, 100, 0], 24), "for documentation"),
    (v4([203, 0, 113, 0], 24), "for documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
];

/// Special networks of IPv6 with their purpose. Addresses outside 2000::/3 are not public anyway.
const IPV6: [(Ipv6Net, &str); 10] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "private (site-local)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved for protocols (Teredo among them)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 address"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
];

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// Network of translated IPv4 addresses (RFC 6052), as DNS64 answers for every IPv4 host.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// IPv4-compatible addresses (RFC 4291, deprecated).
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// Returns the purpose of a non-public address.
pub fn not_public(address: IpAddr) -> Option<&'static str> {
    match plain(address) {
        IpAddr::V4(address) => IPV4.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind),
        IpAddr::V6(address) => IPV6
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, kind)| *kind)
            .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some("not a public unicast address")),
    }
}

/// Returns the IPv4 address inside an IPv6 one, where there is one; else the address itself.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(inner) = address else { return address };
    if let Some(mapped) = inner.to_ipv4_mapped() {
        return mapped.into();
    }
    let low = inner.to_bits() as u32;
    if NAT64.contains(&inner) || (COMPATIBLE.contains(&inner) && low > 1) {
        return Ipv4Addr::from_bits(low).into();
    }
    address
}

/// Address guard: public addresses, and networks that the operator opened.
#[derive(Clone)]
pub(super) struct Guard {
    allow: Arc<[IpNet]>,
}

impl Guard {
    pub fn new(allow: &[IpNet]) -> Self {
        Self { allow: allow.into() }
    }

    /// Refuses an address that is neither public nor opened.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), EgressError> {
        let opened = |address: IpAddr| self.allow.iter().any(|net| net.contains(&address));
        match not_public(address) {
            Some(kind) if !opened(address) && !opened(plain(address)) => {
                Err(EgressError::NotPublic { host: host.to_owned(), address, kind })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks a host that is an address. The URL parser has read it as browsers do, so that `127.1`,
    /// `0x7f000001`, `2130706433`, `017700000001` and `１２７.0.0.1` are all the same by now; such a
    /// host never reaches a resolver.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        let Some(text) = url.host_str() else { return Err(EgressError::NotUrl(host(url))) };
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => self.check(text, address),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_and_what_is_not() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "169.253.1.1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert_eq!(not_public(public.parse().unwrap()), None, "{public}");
        }
        for (hidden, kind) in [
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("10.255.0.1", "private"),
            ("100.64.0.1", "CGNAT"),
            ("100.127.255.255", "CGNAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("198.19.0.1", "benchmarks"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.250", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:a9fe:a9fe", "metadata"),
            ("::127.0.0.1", "loopback"),
            ("::a00:1", "private"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b:1::1", "not a public"),
            ("2002:7f00:1::", "6to4"),
            ("2001:0:1::1", "Teredo"),
            ("fc00::1", "private"),
            ("fd12:3456::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "documentation"),
            ("100::1", "not a public"),
        ] {
            let found = not_public(hidden.parse().unwrap()).unwrap_or("public");
            assert!(found.contains(kind), "{hidden} is {found}, expected {kind}");
        }
    }

    #[test]
    fn an_address_is_found_in_every_notation() {
        let guard = Guard::new(&[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0177.0.0.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:7f00:0001]",
            "user:password@127.0.0.1",
            "169.254.169.254",
            "2852039166",
            "0",
        ] {
            let url = Url::parse(&format!("http://{host}/path")).unwrap();
            assert!(guard.check_url(&url).is_err(), "{host}");
        }
        assert!(guard.check_url(&Url::parse("http://8.8.8.8/").unwrap()).is_ok());
        assert!(guard.check_url(&Url::parse("http://example.com/").unwrap()).is_ok());
    }

    #[test]
    fn the_operator_opens_networks() {
        let guard = Guard::new(&["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (address, open) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("fc00::1", false),
        ] {
            assert_eq!(guard.check("h", address.parse().unwrap()).is_ok(), open, "{address}");
        }
    }
}
