//! `explain`: what a reason means, its likely causes, and what to do; or what would be done with the packets of a capture.

mod capture;

use std::path::Path;

use gre_common::Reason;

use crate::error::Error;
use crate::output::print;
use crate::reasons::{ReasonName, paragraphs};
use crate::table::{WIDTH, render_prose};

/// Explains what the program would do with each packet of a capture, by a configuration file.
///
/// # Errors
///
/// If the file is wrong, the capture cannot be read, or holds other frames than Ethernet's; [`Error::ClosedPipe`] if nobody
/// reads on.
pub fn execute_capture(config: &Path, capture: &Path) -> Result<(), Error> {
    capture::execute(config, capture)
}

/// Explains one reason, or lists all of them.
///
/// # Errors
///
/// [`Error::ClosedPipe`] if nobody reads on.
pub fn execute(reason: Option<ReasonName>) -> Result<(), Error> {
    print(&reason.map_or_else(list, explain))
}

/// Every reason with what becomes of its packets and the first sentence about it.
fn list() -> String {
    let rows = ReasonName::all().map(|name| {
        let actions: Vec<_> = name.variants().map(|reason| reason.action().as_str()).collect();
        let about = name.variants().next().map_or_else(String::new, first_sentence);
        vec![name.as_str().to_owned(), actions.join(" / "), about]
    });
    render_prose(&["reason", "packet", "meaning"], rows) + "\nMore about one: gre-decap explain REASON\n"
}

fn first_sentence(reason: Reason) -> String {
    let first = paragraphs(reason).into_iter().next().unwrap_or_default();
    match first.split_once(". ") {
        Some((sentence, _)) => format!("{sentence}."),
        None => first,
    }
}

fn explain(name: ReasonName) -> String {
    let variants: Vec<_> = name.variants().map(explain_variant).collect();
    variants.join("\n")
}

fn explain_variant(reason: Reason) -> String {
    let mut text = format!("{} ({})\n", reason.name(), reason.action().as_str());
    for paragraph in paragraphs(reason) {
        let options = textwrap::Options::new(WIDTH)
            .initial_indent("  ")
            .subsequent_indent("  ");
        text.push('\n');
        text.push_str(&textwrap::fill(&paragraph, options));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fits_the_width_and_nothing_is_left_out() {
        let all = ReasonName::all().map(explain);
        for text in all.chain([list()]) {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
        let list = list();
        for reason in Reason::ALL {
            assert!(list.contains(reason.name()), "{}", reason.name());
        }
        let unknown = list.lines().find(|line| line.starts_with("unknown_tunnel "));
        let words = unknown.map(|line| line.split_whitespace().take(5).collect::<Vec<_>>());
        assert_eq!(
            words,
            Some(vec!["unknown_tunnel", "pass", "/", "drop", "GRE"]),
            "{list}"
        );
    }

    #[test]
    fn both_outcomes_of_a_name_are_explained() {
        let text = explain(ReasonName::parse("gre_version").unwrap());
        assert!(text.starts_with("gre_version (pass)\n\n  GRE version 1"), "{text}");
        assert!(text.contains("\ngre_version (drop)\n\n  GRE version 2"), "{text}");
    }
}
