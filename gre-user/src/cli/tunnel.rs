//! `tunnel` on the command line: the keys of `[[tunnel]]` as options.

use clap::{Args, Subcommand};

use super::Json;
use crate::commands::tunnel;
use crate::config::string;
use crate::error::Error;
use crate::state::Root;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the tunnels that run
    List(Json),
    /// Show one of them, with its counters
    Show {
        /// The tunnel
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Add a tunnel; values are as in the file, and checked like those
    Add(Box<Add>),
    /// Remove a tunnel; what it has counted goes on if one of its name comes back
    Remove(Name),
    /// Decapsulate a tunnel's packets (again)
    Enable(Name),
    /// Pass a tunnel's packets to the kernel as they come, until it is enabled again
    Disable(Name),
    /// Print what runs as a configuration file
    Export,
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// The tunnel
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// What to call it
    name: String,
    /// This host's end: an IPv4 or IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    local: String,
    /// The far end: an address, a prefix or "any"; again, or with commas, for several
    #[arg(long, value_name = "ADDRESS", required = true, value_delimiter = ',')]
    remote: Vec<String>,
    /// The GRE key, a number; without, packets must carry none
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    key: Option<String>,
    /// How checksums are treated: optional, required, forbidden or ignore
    #[arg(long, value_name = "WORD")]
    checksum: Option<String>,
    /// How sequence numbers are treated: ignore or ordered
    #[arg(long, value_name = "WORD")]
    sequence: Option<String>,
    /// What it may carry, with commas: of ipv4, ipv6, ethernet, mpls
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    inner: Vec<String>,
    /// Where inner packets go: stack, route, or out of an interface
    #[arg(long, value_name = "stack|route|INTERFACE")]
    deliver: Option<String>,
    /// Whom frames to that interface are for: an IP or MAC address
    #[arg(long, value_name = "ADDRESS", requires = "deliver")]
    next_hop: Option<String>,
    /// Over which cores flows are spread: off, all, or a list such as 0-3,6
    #[arg(long, value_name = "CORES")]
    spread: Option<String>,
    /// The TCP MSS that SYNs which arrive are lowered to: off or bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    mss: Option<String>,
    /// An inner destination that stays encapsulated; again, or with commas, for several
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    bypass: Vec<String>,
    /// What becomes of keepalives: ignore or reply
    #[arg(long, value_name = "WORD")]
    keepalive: Option<String>,
    /// Most keepalive replies a second
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    keepalive_rate: Option<String>,
    /// What becomes of replies to health probes: off or route
    #[arg(long, value_name = "WORD")]
    probes: Option<String>,
    /// Add it disabled
    #[arg(long)]
    disabled: bool,
}

impl Command {
    pub(super) fn execute(self, root: &Root) -> Result<(), Error> {
        match self {
            Self::List(Json { json }) => tunnel::list(root, json),
            Self::Show {
                name,
                json: Json { json },
            } => tunnel::show(root, &name, json),
            Self::Add(add) => tunnel::add(root, &add.name, &add.section()?),
            Self::Remove(Name { name }) => tunnel::remove(root, &name),
            Self::Enable(Name { name }) => tunnel::enable(root, &name, true),
            Self::Disable(Name { name }) => tunnel::enable(root, &name, false),
            Self::Export => tunnel::export(root),
        }
    }
}

impl Add {
    /// The section of a file that says the same. Whether it is right is for whoever reads it to say.
    fn section(&self) -> Result<String, Error> {
        let Self {
            name,
            local,
            remote,
            key,
            checksum,
            sequence,
            inner,
            deliver,
            next_hop,
            spread,
            mss,
            bypass,
            keepalive,
            keepalive_rate,
            probes,
            disabled,
        } = self;
        let word = |value: &Option<String>| value.as_deref().map(string);
        let number = |value: &Option<String>| value.as_deref().map(number);
        let list = |values: &[String]| (!values.is_empty()).then(|| array(values));
        let keys = [
            ("name", Some(string(name))),
            ("local", Some(string(local))),
            ("remote", Some(array(remote))),
            ("key", number(key)),
            ("checksum", word(checksum)),
            ("sequence", word(sequence)),
            ("inner", list(inner)),
            ("deliver", delivery(deliver.as_deref(), next_hop.as_deref())?),
            ("spread", word(spread)),
            ("mss", number(mss)),
            ("bypass", list(bypass)),
            ("keepalive", word(keepalive)),
            ("keepalive_rate", number(keepalive_rate)),
            ("probes", word(probes)),
            ("enabled", disabled.then(|| "false".to_owned())),
        ];
        let lines = keys
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)));
        Ok(format!("[[tunnel]]\n{}", lines.collect::<String>()))
    }
}

fn delivery(deliver: Option<&str>, next_hop: Option<&str>) -> Result<Option<String>, Error> {
    match (deliver, next_hop) {
        (None, _) => Ok(None),
        (Some("stack" | "route"), Some(_)) => {
            let line = "--next-hop is for an interface; name that in --deliver; see `gre-decap tunnel add --help`";
            Err(Error::Usage(line.to_owned()))
        }
        (Some(word @ ("stack" | "route")), None) => Ok(Some(string(word))),
        (Some(interface), next_hop) => {
            let next_hop = next_hop.map(|next_hop| format!(", next_hop = {}", string(next_hop)));
            let (interface, next_hop) = (string(interface), next_hop.unwrap_or_default());
            Ok(Some(format!("{{ interface = {interface}{next_hop} }}")))
        }
    }
}

/// A number as TOML has it; what is none is for the configuration's reader to refuse.
fn number(value: &str) -> String {
    let (digits, radix) = match value.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    // TOML takes no zeros in front.
    let is_plain = radix == 16 || digits == "0" || !digits.starts_with('0');
    if is_number && is_plain {
        value.to_owned()
    } else {
        string(value)
    }
}

fn array(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| string(value)).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::super::{Cli, Command as Top, usage};
    use super::*;
    use crate::config::Config;

    fn section(arguments: &str) -> Result<String, String> {
        let arguments: Vec<_> = ["gre-decap", "tunnel", "add"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .map(OsString::from)
            .collect();
        match Cli::try_parse_from(&arguments)
            .map_err(|error| usage(&error, &arguments))?
            .command
        {
            Top::Tunnel(Command::Add(add)) => add.section().map_err(|error| error.to_string()),
            command => panic!("{command:?}"),
        }
    }

    /// What the configuration is with this tunnel, or the error.
    fn added(arguments: &str) -> Result<Config, String> {
        let running =
            "max_tunnels = 3\n[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\nkey = 7";
        let running = Config::from_str(running, "test").unwrap();
        let name = arguments.split(' ').next().unwrap();
        running
            .with_tunnel(name, &section(arguments)?, &[0, 1])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn options_say_what_a_section_does() {
        let ends = "b --local 198.51.100.20 --remote 203.0.113.11";
        let all = "--remote 203.0.113.128/25 --key 0x1068 --checksum required --sequence ordered --inner ipv4,mpls \
                   --deliver eth1 --next-hop 10.0.0.2 --spread 0,1 --mss off --keepalive ignore --keepalive-rate 5 \
                   --probes off --disabled";
        let file = "max_tunnels = 3\n[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\nkey = 7\n\
                    [[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = ['203.0.113.11', '203.0.113.128/25']\n\
                    key = 4200\nchecksum = 'required'\nsequence = 'ordered'\ninner = ['ipv4', 'mpls']\n\
                    deliver = { interface = 'eth1', next_hop = '10.0.0.2' }\nspread = '0-1'\nkeepalive_rate = 5\n\
                    enabled = false";
        let file = Config::from_str(file, "test").unwrap();
        assert_eq!(added(&format!("{ends} {all}")).unwrap(), file);
        let plain = added(&format!("{ends} --deliver route")).unwrap();
        assert_eq!(plain.tunnels[1].deliver, crate::config::Deliver::Route);
    }

    #[test]
    fn what_is_wrong_is_told_in_the_options_words() {
        let ends = "b --local 198.51.100.20 --remote 203.0.113.11";
        for (arguments, line) in [
            (
                "b --local 198.51.100.20 --remote 203.0.113.256",
                "tunnel b: --remote: expected an address, a prefix or \"any\", found \"203.0.113.256\"",
            ),
            (
                "b --local 198.51.100.20 --remote 203.0.113.10 --key 7",
                "tunnel b: --remote: [[tunnel]] \"a\" of what runs has \"203.0.113.10\" with local 198.51.100.20 and key 7 too; \
                 change one of them",
            ),
            (
                "a --local 198.51.100.20 --remote 203.0.113.11",
                "tunnel a: NAME: the tunnel of what runs has the same name; rename or remove one",
            ),
            (
                "b --local 198.51.100.20 --remote 2001:db8::1",
                "tunnel b: --remote: \"2001:db8::1\" is IPv6, but `local` 198.51.100.20 is IPv4; write an IPv4 address or prefix",
            ),
            (
                "b --local 198.51.100.20 --remote 203.0.113.1,203.0.113.2,203.0.113.3",
                "tunnel b: --remote: all tunnels together have 4 remotes, each remote takes one entry of the maps, and \
                 `max_tunnels` is 3; raise `max_tunnels` to at least 4",
            ),
            (
                &format!("{ends} --key 4294967296"),
                "tunnel b: --key: expected an integer from 0 to 4294967295, found 4294967296",
            ),
            (
                &format!("{ends} --key -1"),
                "tunnel b: --key: expected an integer from 0 to 4294967295, found \"-1\"",
            ),
            (
                &format!("{ends} --mss -1"),
                "tunnel b: --mss: expected \"off\" or a number of bytes from 88 to 9216, found \"-1\"",
            ),
            (
                &format!("{ends} --key 007"),
                "tunnel b: --key: expected an integer from 0 to 4294967295, found \"007\"",
            ),
            (
                &format!("{ends} --key ="),
                "tunnel b: --key: expected an integer from 0 to 4294967295, found \"=\"",
            ),
            (
                &format!("{ends} --checksum never"),
                "tunnel b: --checksum: expected \"optional\", \"required\", \"forbidden\" or \"ignore\", found \"never\"",
            ),
            (
                &format!("{ends} --deliver eth1 --next-hop gw"),
                "tunnel b: --next-hop: expected an IP or MAC address, found \"gw\"",
            ),
            (
                &format!("{ends} --deliver eth/1"),
                "tunnel b: --deliver: expected an interface name: 1 to 15 bytes without '/', ':' or white space, not \".\" or \
                 \"..\", found \"eth/1\"",
            ),
            (
                &format!("{ends} --deliver route --next-hop 10.0.0.2"),
                "--next-hop is for an interface; name that in --deliver; see `gre-decap tunnel add --help`",
            ),
            (
                &format!("{ends} --spread 0,9"),
                "tunnel b: --spread: no core 9 is online on this host; it has 0-1, or write \"all\"",
            ),
            (
                &format!("{ends} --deliver route --inner mpls"),
                "tunnel b: --deliver: routes are for inner IPv4 and IPv6; take \"ethernet\" and \"mpls\" out of `inner`, or \
                 deliver to an interface",
            ),
            (
                "b --local 198.51.100.20",
                "the following required arguments were not provided: --remote <ADDRESS>; see `gre-decap tunnel add --help`",
            ),
        ] {
            assert_eq!(added(arguments).expect_err(arguments), line, "{arguments}");
        }
    }
}
