//! The README's commands and configuration files do what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use gre_tests::lab::{Lab, Namespace};
use gre_tests::skip::binary_or_skip;

/// What CI and the other tests run themselves.
const RUN_ELSEWHERE: [&str; 11] = [
    "cargo xtask demo",
    "cargo xtask test",
    "cargo xtask build",
    // It needs a quiet machine; CI makes a quick run.
    "cargo xtask bench",
    // They take longer than all else together, and fetch kernels.
    "cargo xtask vm-test",
    "cargo xtask vm-test --kernel 6.12,newest interop",
    "cargo xtask bench --kernel",
    "cargo xtask bench --count 6.12",
    // Writes outside the laboratory; the file it copies is the one that is tested.
    "install -m 755 target/release/gre-decap /usr/local/sbin/",
    // The tests of the loader run these in a terminal, and beside a `gre-decap run`.
    "gre-decap top",
    "curl http://127.0.0.1:9470/metrics",
];

/// What stands for the reader's own.
const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packets/gre-plain.pcap");

#[test]
fn commands_work_in_their_order() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    let Some(binary) = binary_or_skip("commands_work_in_their_order") else {
        return Ok(());
    };
    let (host, _other) = host(&lab)?;
    let configurations = blocks("toml")?;
    let file = lab.write_file("config.toml", configurations.first().context("a configuration")?)?;
    let blocks = blocks("sh")?;
    let mut lines: Vec<_> = blocks.iter().flat_map(|block| block.lines()).collect();
    // Chapters after the one on taking it away speak of a program that runs.
    lines.sort_by_key(|line| *line == "gre-decap unload");
    let mut ran = 0;
    for line in lines {
        if RUN_ELSEWHERE.contains(&line) {
            continue;
        }
        let arguments = line
            .strip_prefix("gre-decap ")
            .with_context(|| format!("nothing runs `{line}`"))?;
        let arguments = arguments.split_whitespace().map(|argument| match argument {
            "capture.pcap" => CAPTURE,
            argument => argument,
        });
        let mut command = host.command(&binary);
        command.arg("--config").arg(&file).args(arguments);
        run(&mut command, line)?;
        ran += 1;
    }
    assert!(ran >= 13, "only {ran} commands found");
    Ok(())
}

#[test]
fn configuration_files_are_valid() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    let Some(binary) = binary_or_skip("configuration_files_are_valid") else {
        return Ok(());
    };
    let (host, _other) = host(&lab)?;
    let configurations = blocks("toml")?;
    assert!(configurations.len() >= 2);
    for (number, text) in configurations.iter().enumerate() {
        let file = lab.write_file(&format!("config-{number}.toml"), text)?;
        for command in ["check", "load"] {
            let mut process = host.command(&binary);
            process.arg("--config").arg(&file).arg(command);
            run(&mut process, command)?;
        }
    }
    Ok(())
}

#[test]
fn the_service_is_the_one_that_is_packed() -> Result<()> {
    let packed = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/gre-decap.service"))?;
    let shown = blocks("ini")?;
    let shown = shown.first().context("a service")?;
    let (path, shown) = shown.split_once('\n').context("its path")?;
    assert_eq!(path, "# /etc/systemd/system/gre-decap.service");
    assert_eq!(shown, packed);
    Ok(())
}

/// A host with the README's interface, and what it is connected to.
fn host(lab: &Lab) -> Result<(Namespace, Namespace)> {
    let (host, other) = (lab.namespace("host")?, lab.namespace("other")?);
    lab.veth(host.end("eth0").address("198.51.100.20/24"), other.end("wan"))?;
    Ok((host, other))
}

/// Runs a command, which must succeed; one that goes on until it is interrupted must say something first.
fn run(command: &mut Command, line: &str) -> Result<()> {
    if line.ends_with("--watch") {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        return first_words(child, stdout, line);
    }
    // It says at once that it follows, on standard error.
    if line.starts_with("gre-decap drops") {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("its errors")?;
        return first_words(child, stderr, line);
    }
    let output = command.output().with_context(|| line.to_owned())?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Waits until a command has said something, which must be no error, and ends it.
fn first_words(mut child: Child, output: impl Read, line: &str) -> Result<()> {
    let mut first = String::new();
    let read = BufReader::new(output).read_line(&mut first);
    child.kill()?;
    child.wait()?;
    ensure!(read? > 0 && !first.starts_with("error"), "{line}: said `{first}`");
    Ok(())
}

/// The README's fenced blocks of a language, without the indentation of the list they stand in.
fn blocks(language: &str) -> Result<Vec<String>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))?;
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in readme.lines().map(str::trim_start) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) => open = Some(name.to_owned() + "\n"),
            (None, None) => {}
            (Some(text), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
        }
    }
    let first = format!("{language}\n");
    Ok(blocks
        .iter()
        .filter_map(|block| block.strip_prefix(&first))
        .map(str::to_owned)
        .collect())
}
