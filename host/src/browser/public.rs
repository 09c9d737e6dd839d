//! Which addresses everyone can reach.

use std::net::{IpAddr, Ipv4Addr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Names that lead to public addresses. The connection is made to what was judged, so a name that changes its mind gains nothing.
#[derive(Debug)]
pub(super) struct PublicAddresses;

impl Resolver for PublicAddresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut public = self.empty();
        found.iter().filter(|address| is_public(address.ip())).for_each(|address| public.push(*address));
        if public.is_empty() {
            return Err(Error::Other("the address is not public".into()));
        }
        Ok(public)
    }
}

/// Public by its number, and on machines in Azure the service of their host, which has their secrets
/// (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether everyone can reach the address (IANA's special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || a == 0
                || a >= 224
                || (a, b & 0xc0) == (100, 64)
                || (a, b, c) == (192, 0, 0)
                || (a, b, c) == (192, 88, 99)
                || (a, b & 0xfe) == (198, 18)
                || v4 == AZURE;
            !is_special
        }
        IpAddr::V6(v6) => match v6.segments() {
            // Addresses that hold one of the older kind.
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                is_public(Ipv4Addr::new(a, b, c, d).into())
            }
            [first, second, ..] => {
                // What is given out to networks, without what is for documents and for tunnels.
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8) && (first, second) != (0x2001, 0)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{IpAddr, is_public};

    #[test]
    fn addresses_of_machines_and_networks_of_ones_own_are_not_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "168.63.129.16",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(address.parse::<IpAddr>().expect("an address")), "{address}");
        }
        for address in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(address.parse::<IpAddr>().expect("an address")), "{address}");
        }
    }
}
