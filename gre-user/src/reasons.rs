//! Reasons by their names, and what there is to say about each.

use gre_common::Reason;

/// A reason's name, as operators write it. Where the same name stands for two variants, one for each action, it is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReasonName(&'static str);

impl ReasonName {
    /// All names in the order of the packet table.
    pub fn all() -> impl Iterator<Item = Self> {
        let first = |(index, reason): (usize, &Reason)| {
            let name = reason.name();
            let earlier = Reason::ALL.iter().take(index).any(|earlier| earlier.name() == name);
            (!earlier).then_some(Self(name))
        };
        Reason::ALL.iter().enumerate().filter_map(first)
    }

    /// The name that was written.
    ///
    /// # Errors
    ///
    /// If there is none such: a line with those that look like it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = Self::all().find(|name| name.0 == text) {
            return Ok(name);
        }
        let near: Vec<_> = Self::all()
            .filter(|name| is_near(name.0, text))
            .map(|name| format!("`{}`", name.0))
            .collect();
        let hint = match near.as_slice() {
            [] => String::new(),
            near => format!("did you mean {}? ", near.join(" or ")),
        };
        Err(format!("no such reason; {hint}`gre-decap explain` lists all"))
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The variants of this name.
    pub fn variants(self) -> impl Iterator<Item = Reason> {
        let of_this_name = move |reason: &Reason| reason.name() == self.0;
        Reason::ALL.iter().copied().filter(of_this_name)
    }
}

/// Whether one may have been meant where the other was written: a slip of the keys, or a part of it.
fn is_near(name: &str, written: &str) -> bool {
    let distance = strsim::osa_distance(name, written);
    let is_slip = distance <= 3 && 2 * distance < name.len();
    is_slip || written.len() >= 3 && name.contains(written)
}

/// A reason's explanation as paragraphs, each on one line.
pub fn paragraphs(reason: Reason) -> Vec<String> {
    let explanation = reason.explanation();
    let lines: Vec<_> = explanation.lines().map(str::trim).collect();
    lines
        .split(|line| line.is_empty())
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join(" "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once_and_has_its_variants() {
        let names: Vec<_> = ReasonName::all().map(ReasonName::as_str).collect();
        for reason in Reason::ALL {
            let times = names.iter().filter(|name| **name == reason.name()).count();
            assert_eq!(times, 1, "{}", reason.name());
        }
        let unknown = ReasonName::parse("unknown_tunnel").unwrap();
        assert_eq!(
            unknown.variants().collect::<Vec<_>>(),
            [Reason::UnknownPassed, Reason::UnknownDropped]
        );
    }

    #[test]
    fn names_that_were_meant_are_named() {
        for (written, error) in [
            (
                "cheksum_bad",
                "no such reason; did you mean `checksum_bad`? `gre-decap explain` lists all",
            ),
            (
                "checksum",
                "no such reason; did you mean `checksum_policy` or `checksum_bad`? `gre-decap explain` lists all",
            ),
            ("xyzzy", "no such reason; `gre-decap explain` lists all"),
            ("", "no such reason; `gre-decap explain` lists all"),
        ] {
            assert_eq!(ReasonName::parse(written).unwrap_err(), error);
        }
    }

    #[test]
    fn paragraphs_are_unfolded() {
        let paragraphs = paragraphs(Reason::GreReserved);
        assert_eq!(
            paragraphs,
            [
                "The routing bit, or bits 4 or 5 of Reserved0, are set: RFC 2784 section 2.3 says such a packet must be \
                 discarded.",
                "Likely cause: a sender of RFC 1701, or a hand-made packet."
            ]
        );
    }
}
