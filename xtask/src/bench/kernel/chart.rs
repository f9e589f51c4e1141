//! The chart: a bar for each receiver and each end of the way, drawn as SVG.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Fate, Figures, Receiver, Way};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 210.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 64.0;
const TITLE: f64 = 34.0;
const BAR: f64 = 16.0;
const GAP: f64 = 10.0;
/// Each receiver's colour: seen as different by the colour-blind too (Okabe and Ito).
const COLOURS: [(Receiver, &str, &str); 3] = [
    (Receiver::Nobody, "#999999", "no GRE"),
    (Receiver::Ours, "#0072b2", "gre-decap"),
    (Receiver::Kernel, "#e69f00", "ip_gre"),
];

/// What is drawn for each kernel: an end of the way, and what each receiver does that leads there.
const GROUPS: [(&str, &[(Receiver, Fate)]); 4] = [
    (
        "to the stack (blackhole route)",
        &[
            (Receiver::Nobody, Fate::Blackhole),
            (Receiver::Ours, Fate::Blackhole),
            (Receiver::Kernel, Fate::Blackhole),
        ],
    ),
    (
        "into a UDP socket",
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
            (Receiver::Kernel, Fate::Forwarded),
        ],
    ),
    (
        "dropped",
        &[(Receiver::Ours, Fate::Dropped), (Receiver::Kernel, Fate::Dropped)],
    ),
];

/// Draws what was counted with frames that came straight into the receiver.
pub(super) fn draw(all: &[Figures]) -> Result<String> {
    let most = all.iter().flat_map(|figures| &figures.cases);
    let most = most.filter(|case| case.way == Way::Step).map(super::Case::median);
    let scale = (WIDTH - LABELS - RIGHT) / most.fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = TOP;
    for figures in all {
        text(
            &mut body,
            16.0,
            y + 20.0,
            "bold",
            "start",
            &format!("Linux {}", figures.kernel),
        );
        y += TITLE;
        for (name, bars) in GROUPS {
            let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
            text(&mut body, LABELS - 10.0, middle, "normal", "end", name);
            for (receiver, fate) in bars {
                let count = figures.median(Way::Step, *receiver, *fate)?;
                let (_, colour, _) = COLOURS[COLOURS.iter().position(|(of, ..)| of == receiver).unwrap_or_default()];
                let width = count * scale;
                writeln!(
                    body,
                    "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                    BAR - 2.0
                )?;
                text(
                    &mut body,
                    LABELS + width + 6.0,
                    y + 11.5,
                    "normal",
                    "start",
                    &thousands(count),
                );
                y += BAR;
            }
            y += GAP;
        }
    }
    let mut head = String::new();
    text(
        &mut head,
        16.0,
        24.0,
        "bold",
        "start",
        "Instructions a packet, from the driver's receive path on",
    );
    let mut x = 16.0;
    for (_, colour, name) in COLOURS {
        writeln!(
            head,
            "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        )?;
        text(&mut head, x + 18.0, 48.5, "normal", "start", name);
        x += 110.0;
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>Instructions a packet: gre-decap beside ip_gre</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{head}{body}</svg>\n"
    ))
}

fn text(svg: &mut String, x: f64, y: f64, weight: &str, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let written = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"{weight}\" text-anchor=\"{anchor}\">{words}</text>"
    );
    written.expect("a String takes all");
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
    use crate::bench::kernel::Case;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [7.0, 912.0, 5812.0, 1_234_567.0].map(thousands),
            ["7", "912", "5,812", "1,234,567"]
        );
    }

    #[test]
    fn every_bar_shows_its_count() {
        let cases = GROUPS.iter().flat_map(|(_, bars)| bars.iter()).enumerate();
        let cases = cases.map(|(number, (receiver, fate))| Case {
            way: Way::Step,
            receiver: *receiver,
            fate: *fate,
            instructions: vec![1000 + number as u32; 3],
        });
        let figures = Figures {
            kernel: "6.12 <&>".into(),
            cases: cases.collect(),
        };
        let svg = draw(&[figures]).unwrap();
        for number in 1000..1011 {
            let count = thousands(f64::from(number));
            assert!(svg.contains(&format!(">{count}</text>")), "{count} is not in {svg}");
        }
        assert!(svg.contains("Linux 6.12 &lt;&amp;>"));
    }
}
