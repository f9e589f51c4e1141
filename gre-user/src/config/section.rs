//! The file's sections: TOML tables that know their place in the text, so that every error names it.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, excerpt};
use super::item::Item;
use super::{interface, protect, tunnel};

/// The text of a configuration, and how errors speak of it.
pub(super) struct Source<'a> {
    origin: &'a str,
    text: &'a str,
    voice: Voice<'a>,
}

/// What whoever reads an error has written.
#[derive(Clone, Copy)]
enum Voice<'a> {
    /// The text.
    File,
    /// The options that the section of the tunnel of this name was made of. The rest is what runs.
    Options(&'a str),
}

impl<'a> Source<'a> {
    /// The text of a file, which errors call `origin`.
    pub(super) fn file(origin: &'a str, text: &'a str) -> Self {
        let voice = Voice::File;
        Self { origin, text, voice }
    }

    /// The text of what runs, with one more tunnel, of this name, from the command line.
    pub(super) fn options(tunnel: &'a str, text: &'a str) -> Self {
        let voice = Voice::Options(tunnel);
        let origin = "what runs";
        Self { origin, text, voice }
    }

    /// Parses the text as TOML.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let Some(span) = error.span() else {
                // Only a limit of the parser has no place.
                let message = format!("not valid TOML: {}", error.message());
                return ConfigError::new(self.origin, None, message);
            };
            let found = self.text.get(span.clone()).unwrap_or_default().trim();
            let before = self.text.get(..span.start).unwrap_or_default().trim_end();
            let message = if found.is_empty() {
                format!("not valid TOML: {}", error.message())
            } else if before.ends_with('=') && found.starts_with(|c: char| c.is_ascii_alphabetic()) {
                // The parser takes a bare word for a number, and says so.
                let found = excerpt(found);
                format!("not valid TOML: {found} is no value; write strings in quotes: \"{found}\"")
            } else {
                // The parser's other words say what it expected.
                let remedy = match error.message() {
                    "duplicate key" => "; remove one",
                    _ => "",
                };
                format!("not valid TOML at `{}`: {}{remedy}", excerpt(found), error.message())
            };
            self.error(span.start, message)
        })
    }

    /// The line, from 1, of a byte of the text.
    pub(super) fn line(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }

    /// An error at a byte of the text.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> ConfigError {
        let line = match self.voice {
            Voice::File => Some(self.line(offset)),
            Voice::Options(_) => None,
        };
        ConfigError::new(self.origin, line, message)
    }
}

/// The line, from 1, of a byte of a text.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

/// The sections of one file. Their order is the file's.
pub(super) struct Sections<'a> {
    pub(super) top: Section<'a>,
    pub(super) interfaces: Vec<Section<'a>>,
    pub(super) tunnels: Vec<Section<'a>>,
    pub(super) protect: Option<Section<'a>>,
}

impl<'a> Sections<'a> {
    /// Finds the sections under the root and refuses keys that they do not have.
    pub(super) fn find(source: &'a Source<'a>, root: &'a Spanned<DeTable<'a>>) -> Result<Self, ConfigError> {
        let top = Section::open(source, Heading::Top, 0, root.get_ref(), super::KEYS)?;
        Ok(Self {
            interfaces: top.repeated("interface", Heading::Interface, interface::KEYS)?,
            tunnels: top.repeated("tunnel", Heading::Tunnel, tunnel::KEYS)?,
            protect: top
                .get("protect")
                .map(|item| {
                    let table = item.table().ok_or_else(|| item.expected("[protect], once"))?;
                    Section::open(source, Heading::Protect, item.start(), table, protect::KEYS)
                })
                .transpose()?,
            top,
        })
    }
}

/// Which section it is; repeated ones carry their number, from 1.
#[derive(Clone, Copy)]
enum Heading {
    Top,
    Interface(usize),
    Tunnel(usize),
    Protect,
}

/// One table of the file, or a table within a value of it.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    heading: Heading,
    /// The name that the user gave it, or tried to: what errors call it by.
    name: Option<&'a str>,
    /// The key whose value this table is, for a table within a section.
    within: Option<&'static str>,
    start: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    fn open(
        source: &'a Source<'a>,
        heading: Heading,
        start: usize,
        table: &'a DeTable<'a>,
        keys: &[&str],
    ) -> Result<Self, ConfigError> {
        let name = match heading {
            Heading::Interface(_) | Heading::Tunnel(_) => table.get("name").and_then(|name| name.get_ref().as_str()),
            Heading::Top | Heading::Protect => None,
        };
        let section = Self {
            source,
            heading,
            name,
            within: None,
            start,
            table,
        };
        section.refuse_unknown_keys(keys)?;
        Ok(section)
    }

    /// Opens a table that is the value of a key of this section.
    pub(super) fn nested(
        &self,
        key: &'static str,
        value: &'a Spanned<DeValue<'a>>,
        keys: &[&str],
    ) -> Option<Result<Self, ConfigError>> {
        let table = value.get_ref().as_table()?;
        let start = value.span().start;
        let section = Self {
            within: Some(key),
            start,
            table,
            ..*self
        };
        Some(section.refuse_unknown_keys(keys).map(|()| section))
    }

    /// The tables of `[[key]]`.
    fn repeated(
        &self,
        key: &'static str,
        heading: fn(usize) -> Heading,
        keys: &[&str],
    ) -> Result<Vec<Self>, ConfigError> {
        let Some(item) = self.get(key) else {
            return Ok(Vec::new());
        };
        let wanted = format!("[[{key}]], once for each");
        let elements = item.elements().ok_or_else(|| item.expected(&wanted))?;
        let open = |(index, element): (usize, Item<'a>)| {
            let table = element.table().ok_or_else(|| element.expected(&wanted))?;
            Section::open(self.source, heading(index + 1), element.start(), table, keys)
        };
        elements.enumerate().map(open).collect()
    }

    fn refuse_unknown_keys(&self, keys: &[&str]) -> Result<(), ConfigError> {
        let unknown = |key: &&Spanned<_>| !keys.contains(&AsRef::<str>::as_ref(key.get_ref()));
        let Some(key) = self.table.keys().filter(unknown).min_by_key(|key| key.span().start) else {
            return Ok(());
        };
        let name: &str = key.get_ref();
        let near = keys
            .iter()
            .map(|known| (strsim::osa_distance(name, known), known))
            // Two edits turn a short word into any other.
            .filter(|(distance, known)| *distance <= 2 && 2 * distance < known.len())
            .min();
        let hint = near.map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "));
        let name = self.path(&excerpt(name));
        let message = format!("unknown key `{name}`; {hint}allowed: {}", keys.join(", "));
        Err(self.fail(key.span().start, message))
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        let value: &'a Spanned<DeValue<'a>> = self.table.get(key)?;
        Some(Item::new(*self, key, value))
    }

    /// The value of a key that must be there; the error shows how to write it.
    pub(super) fn require(&self, key: &'static str, example: &str) -> Result<Item<'a>, ConfigError> {
        self.get(key).ok_or_else(|| {
            let message = format!(
                "key `{}` is missing; write for example {key} = {example}",
                self.path(key)
            );
            self.fail(self.start, message)
        })
    }

    /// What `read` makes of the value of a key, or the default if the key is absent.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Item<'a>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        self.get(key).map_or(Ok(default), |item| read(&item))
    }

    /// An error about a key, at its value, or at the section if the key is absent.
    pub(super) fn error(&self, key: &'static str, message: impl fmt::Display) -> ConfigError {
        let start = self.get(key).map_or(self.start, |item| item.start());
        self.error_at(start, key, message)
    }

    /// An error about a key, at a byte of the text.
    pub(super) fn error_at(&self, offset: usize, key: &'static str, message: impl fmt::Display) -> ConfigError {
        let message = match self.options_of() {
            Some(_) => format!("{}: {message}", option(&self.path(key))),
            None => format!("key `{}`: {message}", self.path(key)),
        };
        self.fail(offset, message)
    }

    fn fail(&self, offset: usize, message: String) -> ConfigError {
        match self.options_of() {
            Some(tunnel) => ConfigError::new(&format!("tunnel {}", excerpt(tunnel)), None, message),
            None => self.source.error(offset, format!("{self}{message}")),
        }
    }

    /// The tunnel's name, if this section was made of options.
    fn options_of(&self) -> Option<&'a str> {
        match (self.source.voice, self.heading) {
            (Voice::Options(tunnel), Heading::Tunnel(_)) if self.name == Some(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    fn path(&self, key: &str) -> String {
        self.within
            .map_or_else(|| key.to_owned(), |within| format!("{within}.{key}"))
    }

    /// Where the section is, for errors about another one.
    pub(super) fn place(&self) -> String {
        match self.source.voice {
            Voice::File => format!("line {}", self.source.line(self.start)),
            Voice::Options(_) => self.source.origin.to_owned(),
        }
    }

    /// A piece of the text, as a message repeats it.
    pub(super) fn written(&self, span: std::ops::Range<usize>) -> String {
        excerpt(self.source.text.get(span).unwrap_or_default())
    }
}

/// The option of `gre-decap tunnel add` that a key of `[[tunnel]]` is given by.
fn option(key: &str) -> String {
    match key {
        "name" => "NAME".to_owned(),
        "deliver.interface" => "--deliver".to_owned(),
        "deliver.next_hop" => "--next-hop".to_owned(),
        key => format!("--{}", key.replace('_', "-")),
    }
}

/// The place as errors begin with it.
impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (heading, number) = match self.heading {
            Heading::Top => return Ok(()),
            Heading::Protect => return f.write_str("[protect]: "),
            Heading::Interface(number) => ("[[interface]]", number),
            Heading::Tunnel(number) => ("[[tunnel]]", number),
        };
        match self.name {
            Some(name) => write!(f, "{heading} \"{}\": ", excerpt(name)),
            None => write!(f, "{heading} number {number}: "),
        }
    }
}
