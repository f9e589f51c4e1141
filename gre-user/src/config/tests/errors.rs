//! Errors of the file, of TOML, of sections and between them.

use super::super::Config;
use super::{TUNNEL, assert_errors, assert_tunnel_errors, valid};
use std::path::Path;

#[test]
fn files() {
    let folder = std::env::temp_dir().join(format!("gre-decap-config-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a new folder");
    let error = |path: &Path| Config::from_file(path, &[0, 1, 3]).expect_err("refused").to_string();
    let file = folder.join("config.toml");
    let shown = file.display();

    assert_eq!(
        error(&file),
        format!("{shown}: no such file; write it, or name another with --config")
    );
    std::fs::write(&file, b"unknown = 'pass'\n# \xff\n").expect("written");
    assert_eq!(error(&file), format!("{shown}:2: not UTF-8; save the file as UTF-8"));
    std::fs::write(&file, "unknown = 'pas'").expect("written");
    assert_eq!(
        error(&file),
        format!("{shown}:1: key `unknown`: expected \"pass\" or \"drop\", found 'pas'")
    );
    std::fs::write(&file, "unknown = 'drop'").expect("written");
    assert_eq!(
        Config::from_file(&file, &[0]),
        Config::from_str("unknown = 'drop'", "elsewhere")
    );
    std::fs::write(&file, format!("{TUNNEL}spread = '1-2,7'")).expect("written");
    assert_eq!(
        error(&file),
        format!(
            "{shown}:5: [[tunnel]] \"a\": key `spread`: no core 2,7 is online on this host; it has 0-1,3, or write \"all\""
        )
    );
    assert_eq!(
        error(&folder),
        format!("{}: is a directory; name a file with --config", folder.display())
    );
    assert_eq!(
        error(Path::new("/dev/zero")),
        "/dev/zero: is longer than 256 MiB, which no configuration of at most 1048576 tunnels needs; name another file with --config"
    );
    // Sparse, so that only its length is large.
    let sparse = std::fs::File::create(&file).expect("made");
    sparse.set_len((256 << 20) + 1).expect("a length");
    assert_eq!(
        error(&file),
        format!(
            "{shown}: is longer than 256 MiB, which no configuration of at most 1048576 tunnels needs; name another file with --config"
        )
    );
    let under = file.join("x");
    assert_eq!(
        error(&under),
        format!(
            "{}: cannot be read: Not a directory (os error 20); name another file with --config",
            under.display()
        )
    );
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn toml() {
    assert_errors(&[
        ("unknown", "1: not valid TOML: key with no value, expected `=`"),
        (
            "\n\nunknown = pass",
            "3: not valid TOML: pass is no value; write strings in quotes: \"pass\"",
        ),
        (
            "unknown = 'pass",
            "1: not valid TOML: invalid literal string, expected `'`",
        ),
        (
            "max_tunnels = 010",
            "1: not valid TOML at `0`: unexpected leading zero, expected nothing",
        ),
        (
            "unknown = 'pass'\r\nunknown = 'drop'",
            "2: not valid TOML at `unknown`: duplicate key; remove one",
        ),
        (
            "[protect]\n[protect]",
            "2: not valid TOML at `protect`: duplicate key; remove one",
        ),
        (
            "[[tunnel]\nname = 'a'",
            "1: not valid TOML: unclosed array table, expected `]`",
        ),
    ]);
}

#[test]
fn top_level() {
    const KEYS: &str = "allowed: unknown, max_tunnels, spread_queue, interface, tunnel, protect";
    assert_errors(&[
        (
            "unknown = 'reject'",
            "1: key `unknown`: expected \"pass\" or \"drop\", found 'reject'",
        ),
        (
            "# a comment\nunknown = 1",
            "2: key `unknown`: expected \"pass\" or \"drop\", found 1",
        ),
        (
            "max_tunnels = 0",
            "1: key `max_tunnels`: expected an integer from 1 to 1048576, found 0",
        ),
        (
            "spread_queue = 16_385",
            "1: key `spread_queue`: expected an integer from 1 to 16384, found 16_385",
        ),
        (
            "max_tunnels = 1_048_577",
            "1: key `max_tunnels`: expected an integer from 1 to 1048576, found 1_048_577",
        ),
        (
            "max_tunnels = '1k'",
            "1: key `max_tunnels`: expected an integer from 1 to 1048576, found '1k'",
        ),
        (
            "\nmax_tunnel = 1",
            &format!("2: unknown key `max_tunnel`; did you mean `max_tunnels`? {KEYS}"),
        ),
        (
            "[[tunnels]]\nname = 'a'",
            &format!("1: unknown key `tunnels`; did you mean `tunnel`? {KEYS}"),
        ),
        ("zebra = 1\napple = 2", &format!("1: unknown key `zebra`; {KEYS}")),
        ("\"a\\nb\" = 1", &format!("1: unknown key `a\\nb`; {KEYS}")),
        (
            "[[protect]]",
            "1: key `protect`: expected [protect], once, found [[protect]]",
        ),
        (
            "tunnel = 'a'",
            "1: key `tunnel`: expected [[tunnel]], once for each, found 'a'",
        ),
        (
            "tunnel = [\n1]",
            "2: key `tunnel`: expected [[tunnel]], once for each, found 1",
        ),
    ]);
    assert_eq!(valid("max_tunnels = 1_048_576").max_tunnels, 1_048_576);
}

#[test]
fn tunnels() {
    const KEYS: &str = "allowed: name, local, remote, key, checksum, sequence, inner, deliver, spread, mss, bypass, \
                        keepalive, keepalive_rate, probes, enabled";
    const NAME: &str = "key `name`: expected a name of 1 to 63 bytes without control characters, found";
    let long = "x".repeat(64);
    assert_errors(&[
        (
            "\n[[tunnel]]\nlocal = '198.51.100.20'",
            "2: [[tunnel]] number 1: key `name` is missing; write for example name = \"scrub-fra\"",
        ),
        (
            "[[tunnel]]\nname = 'a'",
            "1: [[tunnel]] \"a\": key `local` is missing; write for example local = \"198.51.100.20\"",
        ),
        (
            "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'",
            "1: [[tunnel]] \"a\": key `remote` is missing; write for example remote = [\"203.0.113.10\"]",
        ),
        (
            &format!("{TUNNEL}[[tunnel]]\nname = 3"),
            &format!("6: [[tunnel]] number 2: {NAME} 3"),
        ),
        ("[[tunnel]]\nname = ''", &format!("2: [[tunnel]] \"\": {NAME} ''")),
        (
            "[[tunnel]]\nname = \"a\\tb\"",
            &format!("2: [[tunnel]] \"a\\tb\": {NAME} \"a\\tb\""),
        ),
        (
            &format!("[[tunnel]]\nname = '{long}'"),
            &format!("2: [[tunnel]] \"{long}\": {NAME} '{}…", &long[..63]),
        ),
        // 32 characters of two bytes.
        (
            &format!("[[tunnel]]\nname = '{}'", "ü".repeat(32)),
            &format!("2: [[tunnel]] \"{0}\": {NAME} '{0}'", "ü".repeat(32)),
        ),
        (
            "[[tunnel]]\nremotes = []\nname = 'a'",
            &format!("2: [[tunnel]] \"a\": unknown key `remotes`; did you mean `remote`? {KEYS}"),
        ),
        (
            &format!("{TUNNEL}\n[[tunnel]]\nname = 'a'\nlocal = '198.51.100.21'\nremote = 'any'"),
            "7: [[tunnel]] \"a\": key `name`: the tunnel of line 1 has the same name; rename or remove one",
        ),
        (
            "[[interface]]\nname = 'eth0'\n[[interface]]\nname = 'eth0'",
            "4: [[interface]] \"eth0\": key `name`: the interface of line 1 has the same name; rename or remove one",
        ),
    ]);
    assert_tunnel_errors(&[
        (
            "checksum = 'on'",
            "key `checksum`: expected \"optional\", \"required\", \"forbidden\" or \"ignore\", found 'on'",
        ),
        (
            "sequence = true",
            "key `sequence`: expected \"ignore\" or \"ordered\", found true",
        ),
        (
            "keepalive = 'off'",
            "key `keepalive`: expected \"ignore\" or \"reply\", found 'off'",
        ),
        (
            "keepalive_rate = 0",
            "key `keepalive_rate`: expected an integer from 1 to 10000, found 0",
        ),
        (
            "keepalive_rate = 10001",
            "key `keepalive_rate`: expected an integer from 1 to 10000, found 10001",
        ),
        (
            "probes = 'reply'",
            "key `probes`: expected \"off\" or \"route\", found 'reply'",
        ),
        ("enabled = 'yes'", "key `enabled`: expected true or false, found 'yes'"),
        ("enabled = 1", "key `enabled`: expected true or false, found 1"),
        (
            "keep_alive = 'reply'",
            &format!("unknown key `keep_alive`; did you mean `keepalive`? {KEYS}"),
        ),
        ("mtu = 1400", &format!("unknown key `mtu`; {KEYS}")),
    ]);
    let longest = "x".repeat(63);
    assert_eq!(
        valid(&TUNNEL.replace("'a'", &format!("'{longest}'"))).tunnels[0].name,
        longest
    );
}

#[test]
fn what_a_tunnel_does_not_carry() {
    assert_tunnel_errors(&[
        (
            "deliver = 'route'\ninner = ['ipv4', 'mpls']",
            "key `deliver`: routes are for inner IPv4 and IPv6; take \"ethernet\" and \"mpls\" out of `inner`, or deliver to an \
             interface",
        ),
        (
            "probes = 'route'\ninner = ['mpls']\n",
            "key `probes`: probes are inner IPv4 or IPv6; add \"ipv4\" or \"ipv6\" to `inner`, or set it to \"off\"",
        ),
        (
            "keepalive = 'reply'\ninner = ['ipv6']",
            "key `keepalive`: this tunnel's keepalives are inner ipv4; add \"ipv4\" to `inner`, or set it to \"ignore\"",
        ),
    ]);
    assert_errors(&[(
        "[[tunnel]]\nname = 'a'\nlocal = '2001:db8::1'\nremote = 'any'\ninner = ['ipv4']\nkeepalive = 'reply'",
        "6: [[tunnel]] \"a\": key `keepalive`: this tunnel's keepalives are inner ipv6; add \"ipv6\" to `inner`, or set \
         it to \"ignore\"",
    )]);
}

#[test]
fn remotes_must_fit_the_maps() {
    let tunnels = "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = ['203.0.113.1', '203.0.113.2']\n\
                   [[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = '203.0.113.3'";
    assert_eq!(valid(&format!("max_tunnels = 3\n{tunnels}")).tunnels.len(), 2);
    assert_errors(&[(
        &format!("max_tunnels = 2\n{tunnels}"),
        "9: [[tunnel]] \"b\": key `remote`: all tunnels together have 3 remotes, each remote takes one entry of the \
         maps, and `max_tunnels` is 2; raise `max_tunnels` to at least 3",
    )]);
}

#[test]
fn spread_needs_native_mode() {
    let interface = |name: &str, mode: &str| format!("[[interface]]\nname = '{name}'\nmode = '{mode}'\n");
    let text = |mode: &str, spread: &str| {
        let interfaces = interface("eth0", "native") + &interface("eth1", mode);
        format!("{interfaces}{TUNNEL}spread = '{spread}'")
    };
    for (mode, spread) in [("generic", "off"), ("native", "all"), ("auto", "0")] {
        valid(&text(mode, spread));
    }
    assert_errors(&[(
        &text("generic", "0"),
        "11: [[tunnel]] \"a\": key `spread`: needs native mode, since the kernel loses such packets in generic mode, and \
         [[interface]] \"eth1\" has that; give it mode = \"native\", or write \"off\"",
    )]);
}

#[test]
fn what_needs_protected_prefixes() {
    const NEEDS: &str = "needs `prefixes` in [protect]; write them there, or set it to \"off\"";
    assert_errors(&[
        (
            "[protect]\nlockdown = 'monitor'",
            &format!("2: [protect]: key `lockdown`: {NEEDS}"),
        ),
        (
            "[protect]\nprefixes = []\ninner_destinations = 'enforce'",
            &format!("3: [protect]: key `inner_destinations`: {NEEDS}"),
        ),
        (
            "[[interface]]\nname = 'eth0'\nclamp_mss = 1400",
            &format!("3: [[interface]] \"eth0\": key `clamp_mss`: {NEEDS}"),
        ),
        (
            "[protect]\nlockdown = 'on'",
            "2: [protect]: key `lockdown`: expected \"off\", \"monitor\" or \"enforce\", found 'on'",
        ),
        (
            "[protect]\nallowed = []",
            "2: [protect]: unknown key `allowed`; did you mean `allow`? allowed: prefixes, inner_destinations, \
             lockdown, allow",
        ),
    ]);
    assert_tunnel_errors(&[("probes = 'route'", &format!("key `probes`: {NEEDS}"))]);
}

#[test]
fn what_has_no_inner_destination() {
    assert_errors(&[(
        "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = 'any'\ninner = ['ipv4', 'mpls']\n\
         [protect]\nprefixes = ['192.0.2.0/24']\ninner_destinations = 'monitor'",
        "5: [[tunnel]] \"a\": key `inner`: MPLS packets have no destination that `inner_destinations` in [protect] could judge; \
         take \"mpls\" out, or set that to \"off\"",
    )]);
    assert_tunnel_errors(&[(
        "bypass = ['10.0.0.0/30']\ninner = ['mpls']",
        "key `bypass`: only inner IP packets have a destination; add \"ipv4\" or \"ipv6\" to `inner`, or set it to []",
    )]);
}
