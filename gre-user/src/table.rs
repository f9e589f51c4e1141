//! Tables and numbers for people.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// Columns of the narrowest terminal that is reckoned with.
pub(crate) const WIDTH: usize = 80;

/// Blanks between columns.
const GAP: u16 = 2;

/// Lays out rows under a header; columns from `numbers` on are aligned to the right.
pub(crate) fn render(header: &[&str], numbers: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = columns(header, rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text(&table)
}

/// The same within [`WIDTH`]: words that are too long for it go on in the next line, numbers never.
pub(crate) fn render_narrow(header: &[&str], numbers: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = narrow(header, rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    text(&table)
}

/// Rows whose last column is prose, within [`WIDTH`].
pub(crate) fn render_prose(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = narrow(header, rows);
    for column in table.column_iter_mut().take(header.len().saturating_sub(1)) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    text(&table)
}

fn narrow(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = columns(header, rows);
    // The last column's gap is cut off.
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH as u16 + GAP);
    table
}

fn columns(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table
}

fn text(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A count with a comma between each three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount of a unit: `unit(1_234_567.0, "B")` is "1.23 MB".
pub(crate) fn unit(number: f64, unit: &str) -> String {
    let mut text = amount(number);
    if !text.contains(' ') {
        text.push(' ');
    }
    text + unit
}

/// An amount in three digits with a decimal prefix: `amount(1_234_567.0)` is "1.23 M".
pub(crate) fn amount(number: f64) -> String {
    let mut number = number;
    let mut prefixes = ["", " k", " M", " G", " T", " P"].into_iter().peekable();
    loop {
        let prefix = prefixes.next().unwrap_or_default();
        // What would be rounded to 1000 gets the next prefix.
        if number < 999.5 || prefixes.peek().is_none() {
            let decimals = match number {
                _ if number.fract() == 0.0 => 0,
                ..9.995 => 2,
                ..99.95 => 1,
                _ => 0,
            };
            return format!("{number:.decimals$}{prefix}");
        }
        number /= 1000.0;
    }
}

/// A share, from 0 to 1, in percent; what is less than a ten thousandth but not nothing shows as such.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        ..0.01 => "<0.01 %".to_owned(),
        percent if percent < 10.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// A time span in its largest unit.
pub(crate) fn ago(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s ago"),
        ..120.0 => format!("{seconds:.0} s ago"),
        ..7200.0 => format!("{:.0} min ago", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h ago", seconds / 3600.0),
        _ => format!("{:.0} days ago", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["scrub-fra".to_owned(), "7".to_owned()],
            vec!["b".to_owned(), "1,234".to_owned()],
        ];
        let text = render(&["tunnel", "packets"], 1, rows.into_iter());
        assert_eq!(text, "tunnel     packets\nscrub-fra        7\nb            1,234\n");
    }

    #[test]
    fn long_names_go_on_in_the_next_line() {
        let name = "scrubbing-centre-".repeat(6);
        let rows = [vec![name.clone(), "1.23 M".to_owned()]];
        let text = render_narrow(&["tunnel", "packets"], 1, rows.into_iter());
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("1.23 M"), "{text}");
        let names: String = text
            .lines()
            .skip(1)
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(names, name);
    }

    #[test]
    fn counts() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (100_000, "100,000"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn amounts() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.50"),
            (42.0, "42"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (1_234_567.0, "1.23 M"),
            (99_960_000.0, "100 M"),
            (9.9e9, "9.90 G"),
            (1e21, "1000000 P"),
        ] {
            assert_eq!(amount(number), text);
        }
    }

    #[test]
    fn shares() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.000_01, "<0.01 %"),
            (0.0123, "1.23 %"),
            (0.5, "50 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn units() {
        assert_eq!(unit(99.0, "B"), "99 B");
        assert_eq!(unit(1_234_567.0, "B"), "1.23 MB");
    }

    #[test]
    fn time_spans() {
        for (seconds, text) in [
            (0.25, "0.2 s ago"),
            (59.0, "59 s ago"),
            (600.0, "10 min ago"),
            (9000.0, "2 h ago"),
            (1e6, "12 days ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
