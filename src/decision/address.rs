//! Which addresses a connection to somebody else's host may be made to. What counts is the address that is dialled, whatever name it came
//! from, so this is asked of addresses and never of names.
//!
//! Only what is globally reachable is public. An IPv6 address that stands for an IPv4 one is judged by that, because that is where it leads.
//! Forms whose other end cannot be told (6to4, Teredo, IPv4-compatible and IPv4-translated ones) are never public.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Range {
    pub fn contains(&self, address: IpAddr) -> bool {
        let (range, address, bits) = match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => (u128::from(range.to_bits()), u128::from(address.to_bits()), 32),
            (IpAddr::V6(range), IpAddr::V6(address)) => (range.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        let host_bits = bits - u32::from(self.prefix_bits).min(bits);
        range.checked_shr(host_bits).unwrap_or(0) == address.checked_shr(host_bits).unwrap_or(0)
    }
}

/// Why an address is not dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotPublic(pub &'static str);

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What is not globally reachable in IPv4, by the registry of special purposes (RFC 6890 and what came after).
const CLOSED_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an address of this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address of a carrier's own network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "an address for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "an address of 6to4 relays"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "an address for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved or broadcast address"),
];

/// What is closed inside of the one range from which public IPv6 addresses are given.
const CLOSED_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "a Teredo address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "an address for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "an address for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "an address for documentation"),
];

/// From which public IPv6 addresses are given (RFC 4291, 2.4); everything else is closed, unless it stands for an IPv4 address.
const PUBLIC_V6: Range = Range {
    address: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
    prefix_bits: 3,
};

/// The IPv4 address that an IPv6 one leads to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let groups = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match groups {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // The prefix for networks' own translators is 48 bits long, and by RFC 6052, 2.2 the IPv4 address lies around a byte that is zero.
        // Whatever has more bits set than that may be another layout, so it is not taken for one.
        [0x64, 0xff9b, 1, high, middle, low, 0, 0] if middle & 0xff00 == 0 && low & 0x00ff == 0 => Some(v4(high, middle << 8 | low >> 8)),
        _ => None,
    }
}

/// Whether an address is globally reachable.
pub fn check_public(address: IpAddr) -> Result<(), NotPublic> {
    match address {
        IpAddr::V4(address) => closed(
            CLOSED_V4.iter().map(|(range, bits, what)| (IpAddr::V4(*range), *bits, *what)),
            address.into(),
        ),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => check_public(address.into()),
            None if PUBLIC_V6.contains(address.into()) => closed(
                CLOSED_V6.iter().map(|(range, bits, what)| (IpAddr::V6(*range), *bits, *what)),
                address.into(),
            ),
            None => Err(NotPublic(kind_of_v6(address))),
        },
    }
}

fn closed(ranges: impl Iterator<Item = (IpAddr, u8, &'static str)>, address: IpAddr) -> Result<(), NotPublic> {
    for (range, prefix_bits, what) in ranges {
        let range = Range {
            address: range,
            prefix_bits,
        };
        if range.contains(address) {
            return Err(NotPublic(what));
        }
    }
    Ok(())
}

/// What an address outside of the public range is, for people.
fn kind_of_v6(address: Ipv6Addr) -> &'static str {
    match address.segments()[0] {
        _ if address.is_loopback() => "a loopback address",
        first if first & 0xffc0 == 0xfe80 => "a link-local address",
        first if first & 0xffc0 == 0xfec0 => "a site-local address",
        first if first & 0xfe00 == 0xfc00 => "a private address",
        first if first & 0xff00 == 0xff00 => "a multicast address",
        _ => "an address that is not publicly reachable",
    }
}

/// Whether an address may be dialled: a public one, or one of `allowed`. An address of one family that stands for one of the other is in a
/// range of either.
pub fn check_dialled(address: IpAddr, allowed: &[Range]) -> Result<(), NotPublic> {
    if is_in(address, allowed) { Ok(()) } else { check_public(address) }
}

/// Whether an address lies in one of these ranges.
pub fn is_in(address: IpAddr, ranges: &[Range]) -> bool {
    let canonical = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    ranges.iter().any(|range| range.contains(address) || range.contains(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn range(text: &str) -> Range {
        let (address_text, bits) = text.split_once('/').expect(text);
        Range {
            address: address(address_text),
            prefix_bits: bits.parse().expect(text),
        }
    }

    /// Each range with its first and its last address, and what lies just outside of it.
    #[test]
    fn every_closed_range_is_closed_from_its_first_address_to_its_last() {
        for (first, last, before, after) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2001:200::")),
            (
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                Some("2001:db7::1"),
                Some("2001:db9::"),
            ),
            (
                "2002::",
                "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some("2001:ffff::"),
                Some("2003::"),
            ),
            (
                "3fff::",
                "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some("3ffe::"),
                Some("3fff:1000::"),
            ),
            ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("3fff:1000::1"), None),
            ("::", "::fffe:ffff:ffff", None, None),
        ] {
            for inside in [first, last] {
                assert!(check_public(address(inside)).is_err(), "{inside}");
            }
            for outside in [before, after].into_iter().flatten() {
                assert_eq!(check_public(address(outside)), Ok(()), "{outside}");
            }
        }
    }

    #[test]
    fn an_address_that_stands_for_another_is_judged_by_that() {
        for (text, is_public) in [
            ("::ffff:8.8.8.8", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::100.64.0.1", false),
            ("64:ff9b:1:808:8:800::", true),
            ("64:ff9b:1:a00:0:100::", false),
            // Of another layout: the IPv4 address at the end, or bits where none should be.
            ("64:ff9b:1::10.0.0.1", false),
            ("64:ff9b:1::8.8.8.8", false),
            ("64:ff9b:1:808:108:800::", false),
            ("64:ff9b:1:808:8:801::", false),
            ("64:ff9b:2::808:808", false),
            // What leads somewhere that cannot be told.
            ("::8.8.8.8", false),
            ("::ffff:0:8.8.8.8", false),
            ("2002:808:808::1", false),
            ("2002:7f00:1::1", false),
            ("2001:0:808:808::1", false),
            ("2001:4860:4860::8888", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("ff02::1", false),
            ("100::1", false),
            ("5f00::1", false),
        ] {
            assert_eq!(check_public(address(text)).is_ok(), is_public, "{text}");
        }
    }

    #[test]
    fn what_an_operator_allows_may_be_dialled_and_nothing_beside_it() {
        let allowed = [range("10.1.0.0/16"), range("127.0.0.1/32"), range("fd00:1::/32")];
        for (text, may) in [
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::ffff:127.0.0.1", true),
            ("64:ff9b::10.1.0.1", true),
            ("fd00:1::5", true),
            ("fd00:2::5", false),
            ("8.8.8.8", true),
            ("::1", false),
        ] {
            assert_eq!(check_dialled(address(text), &allowed).is_ok(), may, "{text}");
        }
        assert!(check_dialled(address("169.254.169.254"), &[range("0.0.0.0/0")]).is_ok());
        assert!(check_dialled(address("::1"), &[range("0.0.0.0/0")]).is_err());
        assert!(check_dialled(address("::1"), &[range("::/0")]).is_ok());
    }
}
