use super::*;

fn rules(allowed: &[&str]) -> Rules {
    let allowed: Vec<_> = allowed.iter().map(|net| net.parse().unwrap()).collect();
    Rules::new(&allowed)
}

fn allows(rules: &Rules, address: &str) -> bool {
    rules.allows(address.parse().unwrap())
}

#[test]
fn addresses_of_the_public_internet_may_be_called() {
    for address in [
        "8.8.8.8",
        "9.255.255.255",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ] {
        assert!(allows(&rules(&[]), address), "{address}");
    }
}

#[test]
fn private_addresses_are_refused_in_every_notation() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:7f00:1",
        "::ffff:0:a00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!allows(&rules(&[]), address), "{address}");
    }
}

#[test]
fn only_listed_private_networks_may_be_called() {
    let rules = rules(&["10.1.0.0/16", "fd00::/8"]);

    for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "8.8.8.8"] {
        assert!(allows(&rules, address), "{address}");
    }
    for address in ["10.2.0.1", "127.0.0.1", "fc00::1", "::1"] {
        assert!(!allows(&rules, address), "{address}");
    }
}

#[test]
fn an_address_in_a_url_is_checked_in_every_notation() {
    let check = |url: &str| rules(&[]).check(&url.parse().unwrap());

    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1:8080/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
    ] {
        assert_eq!(check(url), Err(Refused), "{url}");
    }
    assert_eq!(check("https://8.8.8.8/"), Ok(()));
    // A name is checked when it is resolved.
    assert_eq!(check("http://localhost/"), Ok(()));
}

#[tokio::test]
async fn a_host_name_resolves_only_to_allowed_addresses() {
    let resolve = async |rules| Resolver::new(rules).resolve("localhost").await;

    let refused = resolve(rules(&[])).await.err().unwrap();
    let allowed = resolve(rules(&["127.0.0.0/8"])).await.unwrap();

    assert!(matches!(refused, Unresolved::Refused(Refused)));
    assert!(allowed.iter().all(|address| address.ip().is_ipv4()));
}
