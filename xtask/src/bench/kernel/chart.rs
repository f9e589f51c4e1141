//! The chart: for each kernel and each way to the receiver a column of bars, drawn as SVG.

use std::fmt::Write as _;

use anyhow::Result;
use gre_tests::figures::kernel::{Fate, Figures, Receiver, Way};

/// In pixels, as all that follow.
const WIDTH: f64 = 980.0;
const MARGIN: f64 = 16.0;
/// Where the first column's bars begin: left of them stands what they are of.
const LABELS: f64 = 164.0;
/// Right of a bar, for its number.
const NUMBER: f64 = 104.0;
const BETWEEN_COLUMNS: f64 = 14.0;
const HEAD: f64 = 92.0;
const TITLE: f64 = 44.0;
const BAR: f64 = 16.0;
const GAP: f64 = 10.0;
const AXIS: f64 = 34.0;
/// The axis has a line at each multiple of it.
const TICK: f64 = 2_000.0;

/// Colours, seen as different by the colour-blind too (Okabe and Ito), and what they stand for.
const COLOURS: [(&str, &str); 4] = [
    ("#999999", "the inner packet alone, without GRE"),
    ("#0072b2", "GRE to gre-decap"),
    ("#56b4e9", "the same, to an interface without a route"),
    ("#e69f00", "GRE to ip_gre"),
];

/// The columns.
const WAYS: [(Way, &str); 2] = [
    (Way::Step, "straight into the receiver"),
    (Way::Driver, "through a veth's driver"),
];

/// What is drawn in each column: an end of the way, and what each receiver does that leads there.
const GROUPS: [(&str, &[(Receiver, Fate)]); 4] = [
    (
        "stack, blackhole route",
        &[
            (Receiver::Nobody, Fate::Blackhole),
            (Receiver::Ours, Fate::Blackhole),
            (Receiver::Kernel, Fate::Blackhole),
        ],
    ),
    (
        "stack, UDP socket",
        &[
            (Receiver::Nobody, Fate::Socket),
            (Receiver::Ours, Fate::Socket),
            (Receiver::Kernel, Fate::Socket),
        ],
    ),
    (
        "forwarded",
        &[
            (Receiver::Nobody, Fate::Forwarded),
            (Receiver::Ours, Fate::ByRoute),
            (Receiver::Ours, Fate::ToInterface),
            (Receiver::Kernel, Fate::Forwarded),
        ],
    ),
    (
        "dropped by a rule",
        &[(Receiver::Ours, Fate::Dropped), (Receiver::Kernel, Fate::Dropped)],
    ),
];

/// Draws what was counted on each kernel.
pub(super) fn draw(all: &[Figures]) -> Result<String> {
    let scale = Scale::of(all)?;
    let mut svg = Svg::default();
    head(&mut svg);
    let mut y = HEAD;
    for figures in all {
        y = kernel(&mut svg, figures, &scale, y)?;
    }
    Ok(svg.close(y))
}

/// What is drawn, and in which units.
fn head(svg: &mut Svg) {
    svg.text(
        (MARGIN, 24.0),
        Look::Bold,
        "Instructions that a packet takes, from the driver's receive path to the end of its way: fewer is better",
    );
    svg.text(
        (MARGIN, 42.0),
        Look::Normal,
        "The same frames to each, 128 bytes of inner UDP; one tunnel over IPv4. In brackets: what GRE adds to the inner packet alone.",
    );
    let mut x = MARGIN;
    for (colour, name) in COLOURS {
        svg.rectangle((x, 56.0), (12.0, 12.0), colour);
        svg.text((x + 18.0, 66.5), Look::Normal, name);
        x += 50.0 + 6.6 * name.len() as f64;
    }
}

/// One kernel's columns from `top` on; gives where they end.
fn kernel(svg: &mut Svg, figures: &Figures, scale: &Scale, top: f64) -> Result<f64> {
    svg.text((MARGIN, top + 18.0), Look::Bold, &format!("Linux {}", figures.kernel));
    let first = top + TITLE;
    let bars: usize = GROUPS.iter().map(|(_, bars)| bars.len()).sum();
    let last = first + bars as f64 * BAR + GROUPS.len() as f64 * GAP;
    for (column, (way, title)) in (0_u8..).zip(WAYS) {
        let left = LABELS + f64::from(column) * (scale.column + BETWEEN_COLUMNS);
        svg.text((left, top + 34.0), Look::Normal, title);
        axis(svg, scale, left, (first, last));
        let mut y = first + GAP / 2.0;
        for (name, bars) in GROUPS {
            if column == 0 {
                let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
                svg.text((LABELS - 8.0, middle), Look::RightBound, name);
            }
            for (receiver, fate) in bars {
                let count = figures.median(way, *receiver, *fate)?;
                let width = count * scale.pixels;
                svg.rectangle((left, y), (width, BAR - 2.0), colour(*receiver, *fate));
                let number = number(figures, way, *receiver, *fate, count);
                svg.text((left + width + 5.0, y + 11.5), Look::Normal, &number);
                y += BAR;
            }
            y += GAP;
        }
    }
    Ok(last + AXIS)
}

/// A line at each multiple of [`TICK`], from zero on.
fn axis(svg: &mut Svg, scale: &Scale, left: f64, (top, bottom): (f64, f64)) {
    let mut count = 0.0;
    while count <= scale.most {
        let x = left + count * scale.pixels;
        let colour = if count == 0.0 { "#333333" } else { "#dddddd" };
        svg.line((x, top), (x, bottom), colour);
        svg.text((x, bottom + 13.0), Look::Tick, &thousands(count));
        count += TICK;
    }
}

fn colour(receiver: Receiver, fate: Fate) -> &'static str {
    let [bare, ours, to_interface, kernel] = COLOURS;
    let (colour, _) = match (receiver, fate) {
        (Receiver::Ours, Fate::ToInterface) => to_interface,
        (Receiver::Ours, _) => ours,
        (Receiver::Kernel, _) => kernel,
        (Receiver::Nobody | Receiver::Strip | Receiver::StripCounted, _) => bare,
    };
    colour
}

/// The bar's number, with what it has more than the inner packet alone where that goes the same way.
fn number(figures: &Figures, way: Way, receiver: Receiver, fate: Fate, count: f64) -> String {
    let bare = figures.median(way, Receiver::Nobody, fate);
    match bare {
        Ok(bare) if receiver != Receiver::Nobody && count >= bare => {
            format!("{} (+{})", thousands(count), thousands(count - bare))
        }
        _ => thousands(count),
    }
}

/// The same for all bars.
struct Scale {
    /// How wide a column is, numbers included.
    column: f64,
    most: f64,
    /// Of an instruction.
    pixels: f64,
}

impl Scale {
    fn of(all: &[Figures]) -> Result<Self> {
        let mut most: f64 = 1.0;
        for figures in all {
            for (way, _) in WAYS {
                for (receiver, fate) in GROUPS.iter().flat_map(|(_, bars)| bars.iter()) {
                    most = most.max(figures.median(way, *receiver, *fate)?);
                }
            }
        }
        let column = (WIDTH - LABELS - MARGIN - BETWEEN_COLUMNS) / WAYS.len() as f64;
        Ok(Self {
            column,
            most,
            pixels: (column - NUMBER) / most,
        })
    }
}

/// How text looks.
#[derive(Clone, Copy)]
enum Look {
    Normal,
    Bold,
    /// Ends at its place instead of beginning there.
    RightBound,
    /// Around its place, small.
    Tick,
}

/// What was drawn so far.
#[derive(Default)]
struct Svg(String);

impl Svg {
    fn text(&mut self, (x, y): (f64, f64), look: Look, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let look = match look {
            Look::Normal => "",
            Look::Bold => " font-weight=\"bold\"",
            Look::RightBound => " text-anchor=\"end\"",
            Look::Tick => " text-anchor=\"middle\" font-size=\"10\" fill=\"#555555\"",
        };
        self.push(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\"{look}>{words}</text>"));
    }

    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        self.push(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        self.push(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    fn push(&mut self, element: &str) {
        writeln!(self.0, "{element}").expect("a String takes all");
    }

    /// The whole file, of this height.
    fn close(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<title>Instructions a packet: gre-decap beside ip_gre</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.0
        )
    }
}

/// `12345.0` as `12,345`.
fn thousands(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kernel::tests::complete;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [7.0, 912.0, 5812.0, 1_234_567.0].map(thousands),
            ["7", "912", "5,812", "1,234,567"]
        );
    }

    #[test]
    fn every_bar_of_every_kernel_shows_its_count() {
        let svg = draw(&[complete("6.12 <&>"), complete("7.3.1")]).unwrap();
        let times = |words: &str| svg.matches(&format!(">{words}</text>")).count();
        for (words, each) in [
            ("2,000", 1),
            ("2,007", 1),
            ("2,100 (+100)", 1),
            ("2,107 (+100)", 1),
            ("4,500 (+2,500)", 1),
            ("7,300 (+300)", 1),
            ("2,020", 1),
            ("1,000", 1),
            ("207", 1),
            ("4,000", 1),
        ] {
            assert_eq!(times(words) - ticks(words), 2 * each, "{words} in {svg}");
        }
        assert!(svg.contains("Linux 6.12 &lt;&amp;>") && svg.contains("Linux 7.3.1"));
    }

    /// How often the axes of two kernels say so.
    fn ticks(words: &str) -> usize {
        if ["2,000", "4,000"].contains(&words) { 4 } else { 0 }
    }

    #[test]
    fn bars_are_as_long_as_their_counts_from_zero_on() {
        let svg = draw(&[complete("6.12")]).unwrap();
        let width = |colour: &str, words: &str| {
            let lines: Vec<_> = svg.lines().collect();
            let number = lines
                .iter()
                .position(|line| line.contains(&format!(">{words}<")))
                .unwrap();
            let bar = lines[number - 1];
            assert!(bar.contains(colour), "{bar}");
            let width = bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap();
            width.parse::<f64>().unwrap()
        };
        let (one, four) = (width("#56b4e9", "1,000"), width("#e69f00", "4,500 (+2,500)"));
        assert!((four / one - 4.5).abs() < 0.01, "{four} to {one}");
    }

    #[test]
    fn what_was_not_measured_is_not_drawn_as_nothing() {
        let mut figures = complete("6.12");
        figures.cases.truncate(20);
        assert!(draw(&[figures]).is_err());
    }
}
