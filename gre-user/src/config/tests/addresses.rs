//! Local and remote addresses, prefixes and keys.

use super::{TUNNEL, assert_errors, assert_tunnel_errors, valid, valid_tunnel};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

fn tunnel(name: &str, local: &str, remote: &str) -> String {
    format!("[[tunnel]]\nname = '{name}'\nlocal = {local}\nremote = {remote}\n")
}

#[test]
fn local() {
    const LOCAL: &str = "key `local`: expected an IPv4 or IPv6 address without a prefix length, found";
    const REMEDY: &str = "write the address of a host";
    for (local, message) in [
        ("1", format!("{LOCAL} 1")),
        ("''", format!("{LOCAL} ''")),
        ("'any'", format!("{LOCAL} 'any'")),
        ("'198.51.100'", format!("{LOCAL} '198.51.100'")),
        // Some tools read a leading zero as octal.
        ("'198.51.100.020'", format!("{LOCAL} '198.51.100.020'")),
        ("'198.51.100.20/32'", format!("{LOCAL} '198.51.100.20/32'")),
        ("'fe80::1%eth0'", format!("{LOCAL} 'fe80::1%eth0'")),
        (
            "'0.0.0.0'",
            format!("key `local`: '0.0.0.0' is the unspecified address; {REMEDY}"),
        ),
        (
            "'::'",
            format!("key `local`: '::' is the unspecified address; {REMEDY}"),
        ),
        (
            "'224.0.0.1'",
            format!("key `local`: '224.0.0.1' is multicast; {REMEDY}"),
        ),
        ("'ff02::1'", format!("key `local`: 'ff02::1' is multicast; {REMEDY}")),
        (
            "'255.255.255.255'",
            format!("key `local`: '255.255.255.255' is the broadcast address; {REMEDY}"),
        ),
        (
            "'::ffff:192.0.2.1'",
            "key `local`: '::ffff:192.0.2.1' is IPv4-mapped, which no packet carries; write it as IPv4".to_owned(),
        ),
    ] {
        assert_errors(&[(&tunnel("a", local, "'any'"), &format!("3: [[tunnel]] \"a\": {message}"))]);
    }
}

#[test]
fn remote() {
    const REMOTE: &str = "key `remote`: expected an address, a prefix or \"any\", found";
    for (remote, message) in [
        ("7", format!("{REMOTE} 7")),
        ("['203.0.113.10', 7]", format!("{REMOTE} 7")),
        ("'Any'", format!("{REMOTE} 'Any'")),
        ("'203.0.113.256'", format!("{REMOTE} '203.0.113.256'")),
        ("'/24'", format!("{REMOTE} '/24'")),
        (
            "['203.0.113.0/24/24']",
            "key `remote`: expected a prefix length from 0 to 32, found '203.0.113.0/24/24'".to_owned(),
        ),
        (
            "'203.0.113.0/33'",
            "key `remote`: expected a prefix length from 0 to 32, found '203.0.113.0/33'".to_owned(),
        ),
        (
            "'203.0.113.0/+8'",
            "key `remote`: expected a prefix length from 0 to 32, found '203.0.113.0/+8'".to_owned(),
        ),
        (
            "'203.0.113.0/'",
            "key `remote`: expected a prefix length from 0 to 32, found '203.0.113.0/'".to_owned(),
        ),
        (
            "'2001:db8::/129'",
            "key `remote`: expected a prefix length from 0 to 128, found '2001:db8::/129'".to_owned(),
        ),
        (
            "[]",
            "key `remote`: the list is empty; write at least one address or prefix, or \"any\"".to_owned(),
        ),
        (
            "\"203.0.113.10/24\"",
            "key `remote`: \"203.0.113.10/24\" has host bits set; write 203.0.113.0/24".to_owned(),
        ),
        (
            "'2001:db8::1/64'",
            "key `remote`: '2001:db8::1/64' has host bits set; write 2001:db8::/64".to_owned(),
        ),
        (
            "'2001:db8::1'",
            "key `remote`: '2001:db8::1' is IPv6, but `local` 198.51.100.20 is IPv4; write an IPv4 address or prefix"
                .to_owned(),
        ),
        (
            "'0.0.0.0'",
            "key `remote`: '0.0.0.0' is no address of a host; write \"any\" for every remote".to_owned(),
        ),
        (
            "'198.51.100.20'",
            "key `remote`: '198.51.100.20' is the tunnel's own `local`; write the far end's address".to_owned(),
        ),
        (
            "'224.0.0.5'",
            "key `remote`: '224.0.0.5' is multicast; write unicast addresses".to_owned(),
        ),
        (
            "'232.0.0.0/8'",
            "key `remote`: '232.0.0.0/8' is multicast; write unicast addresses".to_owned(),
        ),
        (
            "'255.255.255.255'",
            "key `remote`: '255.255.255.255' is the broadcast address; write unicast addresses".to_owned(),
        ),
        (
            "['any', '0.0.0.0/0']",
            "key `remote`: '0.0.0.0/0' is listed twice; remove one".to_owned(),
        ),
        (
            "['203.0.113.10', '203.0.113.10/32']",
            "key `remote`: '203.0.113.10/32' is listed twice; remove one".to_owned(),
        ),
    ] {
        let text = tunnel("a", "'198.51.100.20'", remote);
        assert_errors(&[(&text, &format!("4: [[tunnel]] \"a\": {message}"))]);
    }
}

#[test]
fn remote_over_ipv6() {
    for (remote, message) in [
        (
            "'203.0.113.10'",
            "key `remote`: '203.0.113.10' is IPv4, but `local` 2001:db8::20 is IPv6; write an IPv6 address or prefix",
        ),
        (
            "'ff02::1'",
            "key `remote`: 'ff02::1' is multicast; write unicast addresses",
        ),
        (
            "'::'",
            "key `remote`: '::' is no address of a host; write \"any\" for every remote",
        ),
        (
            "'::ffff:192.0.2.0/120'",
            "key `remote`: '::ffff:192.0.2.0/120' is IPv4-mapped, which no packet carries; write it as IPv4",
        ),
        // One address in two spellings.
        (
            "['2001:db8::1', '2001:0DB8:0:0::0001/128']",
            "key `remote`: '2001:0DB8:0:0::0001/128' is listed twice; remove one",
        ),
    ] {
        let text = tunnel("a", "'2001:db8::20'", remote);
        assert_errors(&[(&text, &format!("4: [[tunnel]] \"a\": {message}"))]);
    }
}

#[test]
fn an_error_in_a_list_has_the_line_of_its_element() {
    let text = tunnel(
        "a",
        "'198.51.100.20'",
        "[\n  '203.0.113.10',\n  '203.0.113.1/24', # wrong\n]",
    );
    assert_errors(&[(
        &text,
        "6: [[tunnel]] \"a\": key `remote`: '203.0.113.1/24' has host bits set; write 203.0.113.0/24",
    )]);
}

#[test]
fn remotes_are_numbers_not_text() {
    let remotes = |local, remote| {
        let config = valid(&tunnel("a", local, remote));
        config.tunnels[0]
            .remotes
            .iter()
            .map(IpNet::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(remotes("'198.51.100.20'", "'any'"), ["0.0.0.0/0"]);
    assert_eq!(remotes("'2001:db8::20'", "['any']"), ["::/0"]);
    assert_eq!(
        remotes("'198.51.100.20'", "['9.0.0.0/8', '10.0.0.0/8']"),
        ["9.0.0.0/8", "10.0.0.0/8"]
    );
    assert_eq!(remotes("'2001:db8::20'", "'2001:0DB8:0::0001'"), ["2001:db8::1/128"]);

    let config = valid(&tunnel("a", "'198.51.100.20'", "'203.0.113.128/25'"));
    let IpNet::V4(remote) = config.tunnels[0].remotes[0] else {
        panic!("IPv4 expected")
    };
    // The first byte on the wire is the highest of the number, on hosts of either byte order.
    assert_eq!(remote.addr().octets(), [203, 0, 113, 128]);
    assert_eq!(remote.addr().to_bits(), 0xcb00_7180);
    assert_eq!(remote.netmask(), Ipv4Addr::new(255, 255, 255, 128));
    assert_eq!(config.tunnels[0].local, IpAddr::from([198, 51, 100, 20]));
}

#[test]
fn keys_are_numbers_in_host_order() {
    for (text, key) in [
        ("4200", 4200),
        ("0x1068", 0x1068),
        ("0x0000_1068", 4200),
        ("0o10150", 4200),
        ("0", 0),
        ("1_744_830_464", 0x6800_0000),
        ("4294967295", u32::MAX),
    ] {
        assert_eq!(valid_tunnel(&format!("key = {text}")).key, Some(key), "{text}");
    }
    assert_eq!(valid_tunnel("").key, None);

    const KEY: &str = "key `key`: expected an integer from 0 to 4294967295, found";
    assert_tunnel_errors(&[
        ("key = -1", &format!("{KEY} -1")),
        ("key = 4294967296", &format!("{KEY} 4294967296")),
        ("key = 0x1_0000_0000", &format!("{KEY} 0x1_0000_0000")),
        ("key = 18446744073709555816", &format!("{KEY} 18446744073709555816")),
        (
            "key = 340282366920938463463374607431768215656",
            &format!("{KEY} 340282366920938463463374607431768215656"),
        ),
        ("key = 4200.0", &format!("{KEY} 4200.0")),
        ("key = '4200'", &format!("{KEY} '4200'")),
        ("key = true", &format!("{KEY} true")),
        ("key = 2024-01-01", &format!("{KEY} 2024-01-01")),
    ]);
}

#[test]
fn same_endpoints_are_refused_and_the_first_is_named() {
    let second = |rest: &str| format!("{TUNNEL}[[tunnel]]\nname = 'b'\n{rest}");
    for (rest, line) in [
        (
            "local = '198.51.100.20'\nremote = '203.0.113.10/32'",
            "8: [[tunnel]] \"b\": key `remote`: [[tunnel]] \"a\" of line 1 has '203.0.113.10/32' with local \
             198.51.100.20 and no key too; change one of them",
        ),
        (
            "local = '198.51.100.20'\nenabled = false\nremote = [\n'any',\n'203.0.113.10']",
            "11: [[tunnel]] \"b\": key `remote`: [[tunnel]] \"a\" of line 1 has '203.0.113.10' with local \
             198.51.100.20 and no key too; change one of them",
        ),
    ] {
        assert_errors(&[(&second(rest), line)]);
    }
    let keyed = "[[tunnel]]\nname = 'a'\nkey = 0x10\nlocal = '2001:db8::1'\nremote = '2001:db8:1::/48'\n\
                 [[tunnel]]\nname = 'b'\nkey = 16\nlocal = '2001:db8:0::1'\nremote = '2001:db8:1:0::/48'";
    assert_errors(&[(
        keyed,
        "10: [[tunnel]] \"b\": key `remote`: [[tunnel]] \"a\" of line 1 has '2001:db8:1:0::/48' with local 2001:db8::1 \
         and key 16 too; change one of them",
    )]);
    for other in [
        "local = '198.51.100.21'\nremote = '203.0.113.10'",
        "local = '198.51.100.20'\nremote = '203.0.113.11'",
        "local = '198.51.100.20'\nremote = '203.0.113.10'\nkey = 0",
        "local = '198.51.100.20'\nremote = ['203.0.113.0/24', '203.0.113.10/31', 'any']",
    ] {
        assert_eq!(valid(&second(other)).tunnels.len(), 2);
    }
}

#[test]
fn prefixes_of_protect_and_bypass() {
    const PREFIX: &str = "expected an IPv4 or IPv6 address or prefix, found";
    assert_errors(&[
        (
            "[protect]\nprefixes = '192.0.2.0/24'",
            "2: [protect]: key `prefixes`: expected a list of addresses and prefixes, found '192.0.2.0/24'",
        ),
        (
            "[protect]\nprefixes = ['any']",
            &format!("2: [protect]: key `prefixes`: {PREFIX} 'any'"),
        ),
        (
            "[protect]\nprefixes = ['192.0.2.1/24']",
            "2: [protect]: key `prefixes`: '192.0.2.1/24' has host bits set; write 192.0.2.0/24",
        ),
        (
            "[protect]\nallow = ['224.0.0.0/4']",
            "2: [protect]: key `allow`: '224.0.0.0/4' is multicast; write unicast addresses",
        ),
        (
            "[protect]\nallow = ['198.18.5.0/24',\n'198.18.5.0/24']",
            "3: [protect]: key `allow`: '198.18.5.0/24' is listed twice; remove one",
        ),
    ]);
    assert_tunnel_errors(&[
        ("bypass = [10]", &format!("key `bypass`: {PREFIX} 10")),
        (
            "bypass = ['10.0.0.1/30']",
            "key `bypass`: '10.0.0.1/30' has host bits set; write 10.0.0.0/30",
        ),
        (
            "bypass = ['10.0.0.1', '10.0.0.1']",
            "key `bypass`: '10.0.0.1' is listed twice; remove one",
        ),
    ]);
    // A routing protocol's multicast stays for the kernel's device too.
    assert_eq!(valid_tunnel("bypass = ['224.0.0.5', 'fe80::/10']").bypass.len(), 2);
}
