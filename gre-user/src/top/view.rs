//! The live view on the screen. It is laid out for 80 columns and 24 lines, and uses more if there are.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, Wrap};

use super::Model;
use super::model::{PAST, Row};
use crate::table::{amount, percent};

/// Lines for the CPUs, and for reasons with their heading.
const CPU_LINES: u16 = 2;
const REASON_LINES: u16 = 8;
/// The columns of numbers.
const NUMBER: u16 = 9;

const HELP: &str = "\
q, Esc, Ctrl-C   end
s                sort by the next of: packets, bits, drops, name
/                show only tunnels whose names contain what you type; Enter keeps it, Esc drops it
p, Space         stand still, go on
up, down         scroll
h, ?             this help

Rates are of the last interval. The bars show packets a second in the past, each tunnel's to its own scale.
`gre-decap explain REASON` says what a reason means and what to do.

Any key goes back.";

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [title, cpus, tunnels, reasons, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(CPU_LINES),
        Constraint::Min(4),
        Constraint::Length(REASON_LINES),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, model);
    draw_cpus(frame, cpus, model);
    if model.help {
        let [_, middle, _] = Layout::horizontal([Constraint::Length(2), Constraint::Min(0), Constraint::Length(2)])
            .areas(tunnels.union(reasons));
        frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), middle);
    } else {
        draw_tunnels(frame, tunnels, model);
        draw_reasons(frame, reasons, model);
    }
    frame.render_widget(Line::styled(footer(model), reversed()), keys);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let (packets, bits) = model.total();
    let interfaces = if model.interfaces.is_empty() {
        "attached to nothing"
    } else {
        &model.interfaces
    };
    let state = if model.paused { "  PAUSED" } else { "" };
    let text = format!(
        "gre-decap  {interfaces}  {} packets/s  {} bit/s{state}",
        amount(packets),
        amount(bits)
    );
    frame.render_widget(Line::styled(text, bold()), area);
}

fn draw_cpus(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let busy: Vec<_> = model
        .cpus
        .iter()
        .map(|(cpu, load)| format!("{cpu}:{:.0}%", load * 100.0))
        .collect();
    let text = format!("CPUs in soft interrupts  {}", busy.join(" "));
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn draw_tunnels(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let right = |text: &'static str| Cell::from(Line::from(text).right_aligned());
    let header = TableRow::new([
        Cell::from("tunnel"),
        right("packets/s"),
        right("bit/s"),
        right("drops/s"),
        right("packets/s of the past"),
    ])
    .style(bold());
    let shown = model.shown();
    let rows = shown.iter().skip(model.skipped).map(|row| tunnel(row));
    let widths = [
        Constraint::Min(10),
        Constraint::Length(NUMBER),
        Constraint::Length(NUMBER),
        Constraint::Length(NUMBER),
        Constraint::Length(PAST as u16 + 1),
    ];
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(1), area);
}

fn tunnel(row: &Row) -> TableRow<'_> {
    let number = |number| Cell::from(Line::from(amount(number)).right_aligned());
    TableRow::new([
        Cell::from(row.name.as_str()),
        number(row.packets),
        number(row.bits),
        number(row.drops),
        Cell::from(Line::from(bars(&row.past)).right_aligned()),
    ])
}

/// Rates as bars, the newest to the right.
fn bars(past: &VecDeque<f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = past.iter().copied().fold(0.0, f64::max);
    let bar = |rate: &f64| {
        let height = (rate / most * (BARS.len() - 1) as f64).round();
        // Nothing at all is a blank, so that it differs from little.
        if *rate > 0.0 {
            BARS.get(height as usize).copied().unwrap_or(' ')
        } else {
            ' '
        }
    };
    let blanks = PAST.saturating_sub(past.len());
    " ".repeat(blanks) + &past.iter().map(bar).collect::<String>()
}

fn draw_reasons(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let all: f64 = model.total().0 + model.reasons.iter().map(|(_, rate)| rate).sum::<f64>();
    let mut lines = vec![Line::styled(
        format!("{:<20} {:>9} {:>8}", "reason", "packets/s", "share"),
        bold(),
    )];
    for (reason, rate) in &model.reasons {
        let share = percent(rate / all.max(f64::MIN_POSITIVE));
        lines.push(Line::from(format!("{reason:<20} {:>9} {share:>8}", amount(*rate))));
    }
    if model.reasons.is_empty() {
        lines.push(Line::from("none: every packet is delivered"));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn footer(model: &Model) -> String {
    if model.typing {
        return format!("/{}_", model.filter);
    }
    let filter = match model.filter.as_str() {
        "" => String::new(),
        filter => format!(" ({filter})"),
    };
    format!(
        "q end  s sort ({})  / filter{filter}  p pause  up/down scroll  h help",
        model.sort.name()
    )
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::stats::{InterfaceStats, Rates, Stats, TunnelRates};
    use crate::top::press;

    fn model() -> Model {
        let stats = Stats {
            interfaces: vec![InterfaceStats {
                name: "eth0".to_owned(),
                mode: "native".to_owned(),
                mss_clamped: 0,
            }],
            tunnels: Vec::new(),
            reasons: BTreeMap::new(),
            redirects: Vec::new(),
        };
        let tunnel = |name: &str, packets: f64, bytes, drops| TunnelRates {
            name: name.to_owned(),
            packets,
            bytes,
            outer_bytes: bytes,
            reasons: BTreeMap::from([("checksum_bad", drops), ("inner_protocol", 1000.0)]),
        };
        let mut model = Model::default();
        for step in 1..=3 {
            let rates = Rates {
                seconds: 1.0,
                tunnels: vec![
                    tunnel("ams", 50.0, 5e6, 3.0),
                    tunnel("fra", 1e6 / f64::from(step), 1e5, 2.0),
                    tunnel("par", 0.0, 0.0, 0.0),
                ],
                reasons: BTreeMap::from([("checksum_bad", 5.0), ("inner_protocol", 2000.0)]),
            };
            model.update(&stats, &rates, vec![(0, 0.5), (1, 0.034)]);
        }
        model
    }

    fn screen(model: &Model) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(80)
            .map(|line| {
                line.iter()
                    .map(|cell| cell.symbol())
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    fn names(model: &Model) -> Vec<&str> {
        model.shown().iter().map(|row| row.name.as_str()).collect()
    }

    fn press_all(model: &mut Model, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            press(model, KeyEvent::new(code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn everything_is_on_a_small_screen() {
        let screen = screen(&model());
        assert_eq!(
            screen[..7],
            [
                "gre-decap  eth0 (native)  333 k packets/s  40.8 M bit/s",
                "CPUs in soft interrupts  0:50% 1:3%",
                "",
                "tunnel                       packets/s     bit/s   drops/s packets/s of the past",
                "fra                              333 k     800 k         2                   █▅▃",
                "ams                                 50      40 M         3                   ███",
                "par                                  0         0         0",
            ]
        );
        assert_eq!(
            screen[15..18],
            [
                "reason               packets/s    share",
                "inner_protocol             2 k   0.60 %",
                "checksum_bad                 5  <0.01 %",
            ]
        );
        assert_eq!(
            screen[23],
            "q end  s sort (packets)  / filter  p pause  up/down scroll  h help"
        );
    }

    #[test]
    fn keys_sort_filter_pause_and_end() {
        let mut model = model();
        assert_eq!(names(&model), ["fra", "ams", "par"]);
        press_all(&mut model, "s");
        assert_eq!(names(&model), ["ams", "fra", "par"], "by bits");
        press_all(&mut model, "ss");
        assert_eq!(names(&model), ["ams", "fra", "par"], "by name");
        press_all(&mut model, "/r");
        assert_eq!(screen(&model)[23], "/r_");
        assert_eq!(names(&model), ["fra", "par"]);
        // Keys that mean something elsewhere are text here.
        press_all(&mut model, "q\x1b");
        assert!(!model.is_over());
        assert_eq!(names(&model).len(), 3);
        press_all(&mut model, "/par\n");
        assert!(screen(&model)[23].contains("/ filter (par)"));
        press_all(&mut model, "p");
        assert!(model.is_paused() && screen(&model)[0].ends_with("  PAUSED"));
        press_all(&mut model, "h");
        assert!(screen(&model).iter().any(|line| line.contains("sort by the next of")));
        press_all(&mut model, "q");
        assert!(!model.is_over(), "a key ends the help first");
        press_all(&mut model, "q");
        assert!(model.is_over());
    }

    #[test]
    fn the_smallest_screens_are_bearable() {
        for (columns, lines) in [(1, 1), (10, 3), (20, 8), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
            terminal.draw(|frame| draw(frame, &model())).unwrap();
        }
    }
}
