//! Where an endpoint is: what its URL may be, and which host it names.
//!
//! A name says nothing of where it leads: it is resolved for each try, and the address that is dialled is judged then ([`address`]). What is
//! judged here is what stands in the URL itself: its scheme and form, an address that is written out, and names that are local by custom.

use crate::decision::address::{self, Range};
use std::net::IpAddr;
use url::{Host, Url};

/// The longest URL of an endpoint.
pub const URL_CHARS_MAX: usize = 2_048;

/// What a URL would be dialled as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// This address, which may be dialled.
    Address(IpAddr),
    /// Whatever this name resolves to at the moment of a try.
    Name(String),
}

/// Names that lead to this machine or network by custom, wherever they are resolved.
const LOCAL_NAMES: &[&str] = &["localhost", "ip6-localhost", "ip6-loopback", "metadata"];
const LOCAL_SUFFIXES: &[&str] = &[".localhost", ".local", ".internal", ".localdomain", ".home.arpa"];

/// Where a URL leads, if it may be dialled. `allowed` are ranges that an operator has opened; with any, local names may lead there.
pub fn destination(url: &Url, allowed: &[Range]) -> Result<Destination, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must be https, not {}", url.scheme()));
    }
    let by_address = |ip: IpAddr| match address::check_dialled(ip, allowed) {
        Ok(()) => Ok(Destination::Address(ip)),
        Err(why) => Err(format!("leads to {why}; it must be reachable from the public internet")),
    };
    match url.host() {
        None => Err("must name a host".to_owned()),
        Some(Host::Ipv4(ip)) => by_address(ip.into()),
        Some(Host::Ipv6(ip)) => by_address(ip.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            if name.is_empty() {
                return Err("must name a host".to_owned());
            }
            let is_local = LOCAL_NAMES.contains(&name) || LOCAL_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
            if is_local && allowed.is_empty() {
                return Err("names a host of a private network; it must be reachable from the public internet".to_owned());
            }
            Ok(Destination::Name(name.to_owned()))
        }
    }
}

/// The URL of an endpoint. http is for addresses that an operator has opened; whether a name leads to one is asked at each try.
pub fn parse_endpoint(text: &str, allowed: &[Range]) -> Result<Url, String> {
    if text.is_empty() || text.len() > URL_CHARS_MAX {
        return Err(format!("must have 1 to {URL_CHARS_MAX} characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be a URL of visible ASCII characters, such as https://example.com/hooks".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("must be a URL such as https://example.com/hooks ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user or password in it; the signature says who sends".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must have no fragment (#), which no server is sent".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must name a port other than 0".to_owned());
    }
    let destination = destination(&url, allowed)?;
    if url.scheme() == "http" {
        let is_open = match destination {
            Destination::Address(ip) => address::is_in(ip, allowed),
            Destination::Name(_) => !allowed.is_empty(),
        };
        if !is_open {
            return Err("must be https; http is only for addresses that the operator has allowed".to_owned());
        }
    }
    Ok(url)
}

/// The host of an endpoint's URL, for people who may not see the rest of it. Empty: it is no URL.
pub fn host_of(text: &str) -> String {
    let parsed = Url::parse(text).ok();
    parsed.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: Range = Range {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        prefix_bits: 8,
    };

    #[test]
    fn an_endpoint_is_an_https_url_of_a_public_host() {
        for good in [
            "https://example.com/hook",
            "https://example.com:8443/hook?tenant=1",
            "HTTPS://EXAMPLE.COM",
            "https://1.1.1.1/",
            "https://[2001:4860:4860::8888]/",
            "https://xn--n3h.com/",
        ] {
            assert!(parse_endpoint(good, &[]).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "characters"),
            ("example.com", "must be a URL"),
            ("/hook", "must be a URL"),
            ("//example.com/", "must be a URL"),
            ("http://example.com/", "https"),
            ("http://1.1.1.1/", "https"),
            ("ftp://example.com/", "https"),
            ("javascript:alert(1)", "https"),
            ("file:///etc/passwd", "https"),
            ("https://", "must be a URL"),
            ("https://user@example.com/", "no user"),
            ("https://user:pw@example.com/", "no user"),
            ("https://:pw@example.com/", "no user"),
            ("https://example.com/#x", "fragment"),
            ("https://example.com:0/", "port"),
            ("https://example.com:65536/", "must be a URL"),
            ("https://exa mple.com/", "visible"),
            ("https://example.com/\n", "visible"),
            ("https://\u{24d4}xample.com/", "visible"),
            ("https://127.0.0.1/", "loopback"),
            ("https://127.1/", "loopback"),
            ("https://0x7f000001/", "loopback"),
            ("https://0177.0.0.1/", "loopback"),
            ("https://2130706433/", "loopback"),
            ("https://169.254.169.254/latest/meta-data/", "link-local"),
            ("https://[::ffff:169.254.169.254]/", "link-local"),
            ("https://[64:ff9b::10.0.0.1]/", "private"),
            ("https://localhost/", "private network"),
            ("https://LOCALHOST./", "private network"),
            ("https://a.localhost/", "private network"),
            ("https://metadata.google.internal/", "private network"),
        ] {
            let told = parse_endpoint(bad, &[]).expect_err(bad);
            assert!(told.contains(why), "{bad}: {told}");
        }
        assert!(parse_endpoint(&format!("https://example.com/{}", "x".repeat(URL_CHARS_MAX)), &[]).is_err());
    }

    #[test]
    fn what_an_operator_opens_may_be_http_and_have_a_local_name() {
        for (text, is_good) in [
            ("http://127.0.0.1:9/hook", true),
            ("http://[::ffff:127.0.0.1]:9/hook", true),
            ("http://localhost:9/hook", true),
            ("http://hooks.internal/", true),
            ("https://hooks.internal/", true),
            ("http://1.1.1.1/", false),
            ("http://10.0.0.1/", false),
            ("https://10.0.0.1/", false),
            ("http://[::1]/", false),
        ] {
            assert_eq!(parse_endpoint(text, &[LOOPBACK]).is_ok(), is_good, "{text}");
        }
    }

    #[test]
    fn every_way_to_write_an_address_is_that_address() {
        for text in [
            "http://0x7f.1/",
            "http://127.0.1/",
            "http://%31%32%37.0.0.1/",
            "http:127.0.0.1/",
            "http://0/",
            "http://\u{2461}130706433/",
        ] {
            let url = Url::parse(text).expect(text);
            assert!(destination(&url, &[]).is_err(), "{text}");
        }
        let named = destination(&Url::parse("http://-a.com/").expect("a URL"), &[]);
        assert_eq!(named, Ok(Destination::Name("-a.com".to_owned())));
    }

    #[test]
    fn the_host_of_a_url_is_told_without_what_may_be_secret() {
        for (text, host) in [
            ("https://hooks.example.com:8443/T0/B0?token=s3cret", "hooks.example.com"),
            ("https://[2606:4700::1111]/x", "[2606:4700::1111]"),
            ("not a url", ""),
        ] {
            assert_eq!(host_of(text), host);
        }
    }
}
