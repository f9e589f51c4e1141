//! Nothing stays behind of any way to deliver: not after `unload`, and not of the way before when another is loaded.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::ETHERTYPE_IPV4;

use crate::bench::{Bench, Way, datagram_v4, inner_v4};
use crate::net::{Net, config, net_or_return};

const WAYS: [&str; 5] = [
    "deliver = \"route\"",
    "deliver = \"route\"\nspread = \"all\"",
    "deliver = { interface = \"lan0\" }",
    "deliver = { interface = \"lan0\", next_hop = \"192.0.2.80\" }\nspread = \"all\"",
    "deliver = \"stack\"\nspread = \"0\"",
];

/// What is pinned, and which interfaces have a program, in all namespaces.
fn everything(net: &Net) -> Result<String> {
    let find = net
        .router
        .command("find")
        .arg("/sys/fs/bpf")
        .output()
        .context("run find")?;
    let mut files: Vec<_> = String::from_utf8(find.stdout)?.lines().map(str::to_owned).collect();
    files.sort();
    let mut everything = files.join("\n");
    for namespace in [&net.client, &net.centre, &net.router, &net.server] {
        let links = namespace.ip("-details link show")?;
        for line in links.lines().filter(|line| line.contains("prog/xdp")) {
            everything += &format!("\n{}: {line}", namespace.name());
        }
    }
    Ok(everything)
}

fn forwards(bench: &Bench) -> Result<()> {
    let data = b"goes through";
    let packet = datagram_v4(&inner_v4(), data);
    let seen = bench.pass(&bench.frame(Way::V4, ETHERTYPE_IPV4, &packet))?;
    ensure!(
        seen.server.len() == 1 && seen.server[0].ends_with(data),
        "not forwarded: {seen:?}"
    );
    Ok(())
}

#[test]
fn after_unload_there_is_nothing() -> Result<()> {
    let net = net_or_return!();
    let bench = Bench::open(&net)?;
    let before = everything(&net)?;
    for mode in ["native", "generic"] {
        for lines in WAYS {
            // Spreading needs native mode.
            if mode == "generic" && lines.contains("spread") {
                continue;
            }
            net.program.load(&config(mode, lines))?;
            forwards(&bench).context(lines)?;
            net.program.run("", "unload")?;
            let after = everything(&net)?;
            ensure!(after == before, "{lines}, {mode}: before\n{before}\nafter\n{after}");
        }
    }
    Ok(())
}

#[test]
fn of_the_way_before_there_is_nothing() -> Result<()> {
    let net = net_or_return!();
    let bench = Bench::open(&net)?;
    let before = everything(&net)?;
    // What each looks like when loaded first; generations are numbered on.
    let shape = |everything: String| -> Vec<String> {
        let plain = |line: &str| line.chars().filter(|c| !c.is_ascii_digit()).collect();
        everything.lines().map(plain).collect()
    };
    let mut fresh = Vec::new();
    for lines in WAYS {
        net.program.load(&config("native", lines))?;
        fresh.push(shape(everything(&net)?));
        net.program.run("", "unload")?;
    }
    let mut before_it = "nothing";
    // Each after its neighbour, and after the one before that.
    for index in [0, 1, 2, 3, 4, 0, 2, 4, 1, 3, 0] {
        let lines = WAYS[index];
        net.program.load(&config("native", lines))?;
        forwards(&bench).with_context(|| format!("{lines} after {before_it}"))?;
        let (now, fresh) = (shape(everything(&net)?), &fresh[index]);
        ensure!(
            now == *fresh,
            "{lines} after {before_it}: {now:#?}\nbut on its own {fresh:#?}"
        );
        before_it = lines;
    }
    net.program.run("", "unload")?;
    ensure!(everything(&net)? == before, "{}", everything(&net)?);
    Ok(())
}
