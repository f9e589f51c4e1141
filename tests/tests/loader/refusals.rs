//! Bad input: one clear line each, the contract's exit status, and nothing changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process;
use std::thread;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::runner::Runner;
use crate::site::{CONFIG, ROOT, site_or_return};

#[test]
fn wrong_configurations() -> Result<()> {
    let site = site_or_return!();
    let tunnel = |lines: &str| format!("[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\n{lines}\n");
    let cases = [
        (
            "unknwon = 'pass'".to_owned(),
            "1: unknown key `unknwon`; did you mean `unknown`?",
        ),
        (
            "max_tunnels = 'many'".to_owned(),
            "1: key `max_tunnels`: expected an integer from 1 to 1048576, found 'many'",
        ),
        (
            "unknown = pass".to_owned(),
            "1: not valid TOML: pass is no value; write strings in quotes: \"pass\"",
        ),
        (
            tunnel("remote = '203.0.113.256'"),
            "4: [[tunnel]] \"a\": key `remote`: expected an address, a prefix or \"any\"",
        ),
        (
            tunnel("remote = '203.0.113.10/24'"),
            "4: [[tunnel]] \"a\": key `remote`: '203.0.113.10/24' has host bits set",
        ),
        (
            tunnel("remote = '2001:db8::1'"),
            "4: [[tunnel]] \"a\": key `remote`: '2001:db8::1' is IPv6, but `local`",
        ),
        (
            tunnel("remote = 'any'\nkey = 4294967296"),
            "5: [[tunnel]] \"a\": key `key`: expected an integer from 0 to 4294967295",
        ),
        (
            tunnel("remote = 'any'").repeat(2),
            "6: [[tunnel]] \"a\": key `name`: the tunnel of line 1 has the same name",
        ),
        (
            tunnel("remote = 'any'") + &tunnel("remote = '0.0.0.0/0'").replace("'a'", "'b'"),
            "8: [[tunnel]] \"b\": key `remote`: [[tunnel]] \"a\" of line 1 has '0.0.0.0/0' with local 198.51.100.20",
        ),
    ];
    // Over nothing, and over what runs.
    for loaded in [false, true] {
        if loaded {
            site.ok(CONFIG, "load")?;
        }
        let before = site.everything()?;
        for (config, line) in &cases {
            for command in ["check", "load", "run"] {
                let done = site.run(config, command)?;
                let expected = format!("error: /dev/shm/config.toml:{line}");
                assert!(
                    done.stderr.starts_with(&expected),
                    "{command}: {}\nexpected: {expected}",
                    done.stderr
                );
                assert_eq!((done.stderr.lines().count(), done.status), (1, Some(2)), "{done:?}");
                assert_eq!(done.stdout, "");
            }
        }
        for command in ["check", "load", "run"] {
            let done = site.run_by(
                &["sh", "-c", "shift 2; exec \"$0\" --config /nowhere/config.toml \"$@\""],
                "",
                command,
            )?;
            done.is_refusal(
                2,
                "/nowhere/config.toml: no such file; write it, or name another with --config",
            );
        }
        assert_eq!(site.everything()?, before);
    }
    Ok(())
}

/// A pipe is read as well as a file, but once: read again, it would be the configuration of an empty file.
#[test]
fn files_that_do_not_end_or_do_not_last() -> Result<()> {
    let site = site_or_return!();
    let run = |file: &str, command: &str| {
        let instead = format!("file=$2; shift 2; cat $file | $0 --config {file} $@");
        site.run_by(&["sh", "-c", &instead], CONFIG, command)
    };
    run("/dev/stdin", "load")?.is_done("from a pipe");
    let before = site.everything()?;
    let endless = "/dev/zero: is longer than 256 MiB, which no configuration of at most 1048576 tunnels needs; name another file with \
                   --config";
    for command in ["check", "load"] {
        run("/dev/zero", command)?.is_refusal(2, endless);
    }
    let gone = "is no regular file, which can be read again at SIGHUP; name one with --config";
    for file in ["/dev/zero", "/dev/null", "/dev/stdin"] {
        run(file, "run --listen off")?.is_refusal(2, &format!("{file}: {gone}"));
    }

    // One that becomes a pipe changes nothing.
    let mut runner = Runner::start(&site, CONFIG, "--listen off --keep")?;
    runner.says("nothing changed\n")?;
    let file = "/dev/shm/config.toml";
    site.origin.run(|| {
        fs::remove_file(file)?;
        Ok(mkfifo(file, Mode::S_IRUSR)?)
    })?;
    runner.signal(Signal::SIGHUP)?;
    runner.warns(&format!("error: {file}: {gone}\n"))?;
    site.origin.run(|| Ok(fs::remove_file(file)?))?;
    assert_eq!(site.everything()?, before);
    Ok(())
}

#[test]
fn wrong_usage() -> Result<()> {
    let site = site_or_return!();
    for (arguments, line) in [
        ("", "no command; see `gre-decap --help`"),
        (
            "lod",
            "unrecognized subcommand 'lod'; tip: a similar subcommand exists: 'load'; see `gre-decap --help`",
        ),
        (
            "load --json",
            "unexpected argument '--json' found; see `gre-decap load --help`",
        ),
        (
            "run --listen 9470",
            "invalid value '9470' for '--listen <ADDR>': expected an address and port such as 127.0.0.1:9470 or [::1]:9470, \
             unix:/PATH, or off; see `gre-decap run --help`",
        ),
    ] {
        site.refused(CONFIG, arguments, 2, line)?;
    }
    Ok(())
}

#[test]
fn missing_capabilities_are_named() -> Result<()> {
    let site = site_or_return!();
    // CAP_SYS_ADMIN stands in for two of them.
    for (dropped, named) in [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF"),
        (
            "-bpf,-perfmon,-net_admin,-sys_admin",
            "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON",
        ),
    ] {
        let sets = [format!("--bounding-set={dropped}"), format!("--inh-caps={dropped}")];
        let done = site.run_by(&["setpriv", &sets[0], &sets[1]], CONFIG, "load")?;
        done.is_refusal(
            1,
            &format!(
                "this process lacks {named} to load and attach BPF programs; run as root, or give it what it lacks"
            ),
        );
        assert!(!site.files("/sys/fs/bpf")?.contains(&ROOT.to_owned()));
    }
    // Who may not look is told so, too.
    site.ok(CONFIG, "load")?;
    for command in ["status", "stats", "unload"] {
        let done = site.run_by(
            &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
            "",
            command,
        )?;
        done.is_refusal(
            1,
            &format!("--root {ROOT}: permission denied; run as root, or as the user who has loaded"),
        );
    }
    Ok(())
}

#[test]
fn the_root_must_be_in_a_bpf_filesystem() -> Result<()> {
    let site = site_or_return!();
    for command in ["load", "status", "stats", "unload", "run"] {
        site.refused(
            CONFIG,
            &format!("--root /dev/shm/state {command}"),
            1,
            "--root /dev/shm/state: no BPF filesystem is mounted there; run `mount -t bpf bpf /sys/fs/bpf` (`ip netns exec` \
             hides it by a /sys of its own: enter a network namespace with `nsenter --net=/run/netns/NAME` instead)",
        )?;
    }
    for (root, line) in [
        ("state", "is not an absolute path; write it from / on"),
        (
            "/sys/fs/bpf/a.b",
            "a BPF filesystem takes no names with a dot; choose another name",
        ),
    ] {
        site.refused(
            CONFIG,
            &format!("--root {root} load"),
            1,
            &format!("--root {root}: {line}"),
        )?;
    }
    site.ok(CONFIG, "load")?;
    let file = format!("{ROOT}/generation-1/program");
    let line = format!("--root {file}: cannot be used: File exists (os error 17); choose another folder");
    site.refused(CONFIG, &format!("--root {file} load"), 1, &line)?;
    let long = format!("/sys/fs/bpf/{}", "a".repeat(256));
    let line =
        format!("--root {long}: {long} cannot be looked at: ENAMETOOLONG: File name too long; choose another folder");
    site.refused(CONFIG, &format!("--root {long} status"), 1, &line)?;
    site.ok("", "unload")?;
    Ok(())
}

#[test]
fn a_bpf_filesystem_for_reading_only_is_refused_before_anything_changes() -> Result<()> {
    let site = site_or_return!();
    let read_only = |config: &str, command: &str| {
        let script = "mount -o remount,bind,ro /sys/fs/bpf && exec \"$0\" \"$@\"";
        site.run_by(&["unshare", "--mount", "sh", "-c", script], config, command)
    };
    let line =
        format!("--root {ROOT}: the BPF filesystem is mounted for reading only; run `mount -o remount,rw /sys/fs/bpf`");
    for command in ["load", "run"] {
        read_only(CONFIG, command)?.is_refusal(1, &line);
    }
    site.ok(CONFIG, "load")?;
    let before = site.everything()?;
    let other = CONFIG.replace("4200", "4201");
    for command in ["load", "run", "unload"] {
        read_only(&other, command)?.is_refusal(1, &line);
    }
    assert_eq!(site.everything()?, before);
    // Who only looks may.
    read_only("", "status")?.is_done("status");
    read_only("", "stats --json")?.is_done("stats");
    Ok(())
}

/// And goes with them, but for what others have made, or use.
#[test]
fn the_root_is_made_with_the_folders_above_it() -> Result<()> {
    let site = site_or_return!();
    let before = site.everything()?;
    let (first, second) = ("--root /sys/fs/bpf/a/b/c", "--root /sys/fs/bpf/a/d");
    site.ok(CONFIG, &format!("{first} load"))?;
    // A configuration that does nothing, and says so.
    assert_eq!(site.run("", &format!("{second} load"))?.status, Some(0));
    site.ok("", &format!("{first} unload"))?;
    let files = site.files("/sys/fs/bpf")?;
    assert!(files.contains(&"/sys/fs/bpf/a/d".to_owned()) && !files.contains(&"/sys/fs/bpf/a/b".to_owned()));
    site.ok("", &format!("{second} unload"))?;
    assert_eq!(site.everything()?, before);
    // After a first load that fails as well.
    let done = site.run(&CONFIG.replace("wan0", "absent0"), &format!("{first} load"))?;
    assert_eq!((done.status, site.everything()?), (Some(1), before), "{done:?}");

    site.origin.run(|| Ok(fs::create_dir("/sys/fs/bpf/a")?))?;
    site.ok(CONFIG, &format!("{first} load"))?;
    site.ok("", &format!("{first} unload"))?;
    assert_eq!(site.files("/sys/fs/bpf/a")?, ["/sys/fs/bpf/a"]);
    Ok(())
}

#[test]
fn a_short_change_by_another_process_is_waited_for() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let folder = site.origin.run(|| Ok(File::open(ROOT)?))?;
    let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    let mut unload = site.command("", "unload")?.spawn()?;
    // It has opened the folder when it waits for the lock: a second descriptor of it in all processes.
    let inode = fs::metadata(format!("/proc/self/fd/{}", lock.as_raw_fd()))?.ino();
    let waits = || {
        let open = fs::read_dir(format!("/proc/{}/fd", unload.id()))?;
        Ok::<_, io::Error>(
            open.flatten()
                .any(|file| fs::metadata(file.path()).is_ok_and(|file| file.ino() == inode)),
        )
    };
    while !waits()? {
        thread::yield_now();
    }
    drop(lock);
    assert!(unload.wait()?.success());
    Ok(())
}

#[test]
fn one_process_at_a_time_changes_the_state() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let folder = site.origin.run(|| Ok(File::open(ROOT)?))?;
    let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    let name = fs::read_to_string("/proc/self/comm")?;
    let line = format!(
        "{ROOT}: is being changed by process {} ({}); try again when that is done",
        process::id(),
        name.trim()
    );
    for command in ["load", "unload", "run", "tunnel disable scrub-fra"] {
        site.refused(&format!("unknown = 'drop'\n{CONFIG}"), command, 1, &line)?;
    }
    // Who only looks need not wait.
    assert_eq!(site.json("stats")?["reasons"], serde_json::json!({}));
    drop(lock);
    site.ok("", "unload")?;
    Ok(())
}

#[test]
fn a_lock_whose_holder_was_killed_holds_nobody_up() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let mut holder = site
        .origin
        .command("flock")
        .args(["--no-fork", ROOT, "sh", "-c", "echo locked; exec sleep 600"])
        .stdout(process::Stdio::piped())
        .spawn()?;
    let mut said = [0; 7];
    holder.stdout.take().context("its output")?.read_exact(&mut said)?;
    let folder = site.origin.run(|| Ok(File::open(ROOT)?))?;
    assert!(
        Flock::lock(folder, FlockArg::LockExclusiveNonblock).is_err(),
        "it is locked"
    );
    holder.kill()?;
    holder.wait()?;
    site.ok(&CONFIG.replace("4200", "4201"), "load")?;
    site.ok("", "unload")?;
    Ok(())
}

#[test]
fn a_failure_after_programs_were_replaced_is_undone() -> Result<()> {
    let site = site_or_return!();
    site.lab.veth(site.origin.end("wan1"), site.origin.end("spare"))?;
    site.ok(CONFIG, "load")?;
    // In the way of the very last step, when wan1 has been attached to and the program of wan0 replaced.
    site.origin.run(|| Ok(fs::create_dir(format!("{ROOT}/next"))?))?;
    let both = format!("{}\n[[interface]]\nname = \"wan1\"\n", CONFIG.replace("4200", "4201"));
    site.refused(
        &both,
        "load",
        1,
        &format!("{ROOT}/next: cannot be removed: Is a directory (os error 21); what was running goes on as before"),
    )?;
    site.origin.run(|| Ok(fs::remove_dir(format!("{ROOT}/next"))?))?;
    assert_eq!(
        site.ok(&both, "load")?,
        "loaded 1 tunnel on wan0 (native), wan1 (native)\n"
    );
    Ok(())
}

#[test]
fn state_that_is_not_ours_is_not_touched() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let current = format!("{ROOT}/current");
    let settings = fs::read_link(site.origin.path()).map(|_| format!("{ROOT}/generation-1/SETTINGS"))?;
    site.origin.run(|| Ok(fs::remove_file(&settings)?))?;
    let done = site.run(&CONFIG.replace("4200", "7"), "load")?;
    done.is_refusal(
        1,
        &format!(
            "what is running cannot be read (`gre-decap unload` removes it): {settings}: cannot be opened: `BPF_OBJ_GET` \
             failed: No such file or directory (os error 2); what was running goes on as before"
        ),
    );
    site.origin.run(|| {
        fs::remove_file(&current)?;
        Ok(symlink("/sys/fs/bpf", &current)?)
    })?;
    let line =
        format!("{current}: points to /sys/fs/bpf, which gre-decap never makes; remove it, or choose another --root");
    for command in ["load", "status", "stats", "unload"] {
        site.run(CONFIG, command)?.is_refusal(1, &line);
    }
    Ok(())
}
