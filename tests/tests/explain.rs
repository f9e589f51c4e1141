//! `gre-decap explain`, which needs no privileges and no kernel.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use gre_common::Reason;
use gre_tests::skip::binary_or_skip;

/// The tunnel of the captures in `packets/`, from left to right.
const CONFIG: &str = "[[tunnel]]\nname = 'kernel'\nlocal = '10.0.0.2'\nremote = '10.0.0.1'\n";
/// The other direction's, which has the replies.
const BACK: &str = "[[tunnel]]\nname = 'kernel'\nlocal = '10.0.0.1'\nremote = '10.0.0.2'\n";

fn packets(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packets").join(name)
}

/// Runs it with a configuration on its standard input, which it is told to take for the file.
fn explain(binary: &Path, config: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary);
    command.args(["--config", "/dev/stdin", "explain"]).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // One that does not read its configuration may have ended before it was written.
    child
        .stdin
        .take()
        .context("its input")?
        .write_all(config.as_bytes())
        .ok();
    Ok(child.wait_with_output()?)
}

fn text(output: &Output) -> Result<String> {
    assert_eq!(String::from_utf8(output.stderr.clone())?, "");
    assert_eq!(output.status.code(), Some(0));
    Ok(String::from_utf8(output.stdout.clone())?)
}

#[test]
fn every_reason_is_explained() -> Result<()> {
    let Some(binary) = binary_or_skip("every_reason_is_explained") else {
        return Ok(());
    };
    let all = text(&explain(&binary, "", &[])?)?;
    for reason in Reason::ALL {
        assert!(all.contains(&format!("\n{} ", reason.name())), "{all}");
        let one = text(&explain(&binary, "", &[reason.name()])?)?;
        assert!(
            one.contains(&format!("{} ({})\n", reason.name(), reason.action().as_str())),
            "{one}"
        );
    }
    let unknown = explain(&binary, "", &["checksum_bed"])?;
    assert_eq!(unknown.status.code(), Some(2));
    let stderr = String::from_utf8(unknown.stderr)?;
    assert!(
        stderr.contains("did you mean `checksum_bad`?") && stderr.lines().count() == 1,
        "{stderr}"
    );
    Ok(())
}

#[test]
fn every_packet_of_a_capture_is_explained() -> Result<()> {
    let Some(binary) = binary_or_skip("every_packet_of_a_capture_is_explained") else {
        return Ok(());
    };
    let capture = packets("gre-plain.pcap");
    let capture = capture.to_str().context("a path")?;
    let plain = text(&explain(&binary, CONFIG, &["--pcap", capture])?)?;
    let delivered = plain.matches("Z  deliver: from tunnel kernel  ").count();
    let others = plain.matches("Z  pass: no GRE to a tunnel's local address  ").count();
    assert!(delivered > 5 && others > 5, "{plain}");
    let sum = |what: &str| {
        plain
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(what)?.trim().parse().ok())
    };
    assert_eq!(sum("deliver: from tunnel kernel"), Some(delivered));
    assert_eq!(sum("pass: no GRE to a tunnel's local address"), Some(others));
    let first = "    10.0.0.1 > 10.0.0.2  GRE  60 bytes\n    GRE IPv4\n    192.168.7.1 > 192.168.7.2  ICMP  36 bytes\n";
    assert!(plain.contains(first), "{plain}");

    // A key that nobody has, and tunnels that want other packets than they get.
    for (file, config, what) in [
        ("gre-key.pcap", CONFIG.to_owned(), "pass: unknown_tunnel in no tunnel"),
        (
            "gre-key.pcap",
            format!("unknown = 'drop'\n{CONFIG}"),
            "drop: unknown_tunnel in no tunnel",
        ),
        (
            "gre-csum.pcap",
            format!("{CONFIG}checksum = 'forbidden'"),
            "drop: checksum_policy in tunnel kernel",
        ),
        (
            "gre-plain.pcap",
            format!("{CONFIG}sequence = 'ordered'"),
            "drop: sequence in tunnel kernel",
        ),
        (
            "gre-plain.pcap",
            format!("{CONFIG}enabled = false"),
            "pass: tunnel_disabled in tunnel kernel",
        ),
        (
            "gre-plain.pcap",
            format!("{BACK}probes = 'route'\n[protect]\nprefixes = ['192.0.2.0/24']"),
            "deliver: from tunnel kernel, probe",
        ),
        (
            "gre-frag-outer.pcap",
            CONFIG.to_owned(),
            "pass: outer_fragment in no tunnel",
        ),
    ] {
        let capture = packets(file);
        let text = text(&explain(
            &binary,
            &config,
            &["--pcap", capture.to_str().context("a path")?],
        )?)?;
        assert!(text.contains(&format!("Z  {what}  ")), "{file} under {config}: {text}");
    }
    Ok(())
}

/// As a capture comes from `tcpdump -w -`.
#[test]
fn a_capture_may_come_by_a_pipe() -> Result<()> {
    let Some(binary) = binary_or_skip("a_capture_may_come_by_a_pipe") else {
        return Ok(());
    };
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("explain-{}.toml", std::process::id()));
    std::fs::write(&config, CONFIG)?;
    let capture = packets("gre-plain.pcap");
    let of_file = explain(&binary, CONFIG, &["--pcap", capture.to_str().context("a path")?])?;
    let piped = Command::new("sh")
        .args(["-c", "cat \"$2\" | \"$0\" --config \"$1\" explain --pcap /dev/stdin"])
        .args([&binary, &config, &capture])
        .output()?;
    std::fs::remove_file(&config)?;
    assert_eq!(text(&piped)?, text(&of_file)?);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_told() -> Result<()> {
    let Some(binary) = binary_or_skip("what_cannot_be_read_is_told") else {
        return Ok(());
    };
    for (config, capture, status, line) in [
        (
            CONFIG,
            "/nowhere/x.pcap",
            1,
            "/nowhere/x.pcap: cannot be opened: No such file or directory (os error 2); name a pcap or pcapng file of Ethernet frames",
        ),
        (CONFIG, file!(), 1, "explain.rs: cannot be read as a capture: "),
        (CONFIG, file!(), 1, "; name a pcap or pcapng file of Ethernet frames"),
        ("unknown = 7", "/nowhere/x.pcap", 2, "/dev/stdin:1: key `unknown`: "),
    ] {
        let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(capture);
        let output = explain(&binary, config, &["--pcap", capture.to_str().context("a path")?])?;
        let stderr = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(line) && stderr.lines().count() == 1, "{stderr}");
    }
    Ok(())
}
